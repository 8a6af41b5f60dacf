-- Take the newest entries off a session, once for each write id.
-- Python half: Pop in ops/session.py
-- KEYS  see common.lua, 6 popped
-- ARGV  3 how many, 4 prefixes of the entries that start a turn
-- returns the entries, oldest first

local MINUTE = 60000 -- milliseconds for which what was popped is kept for a repeated call, unless the session expires
local held = redis.call('HMGET', KEYS[2], 'batches', FIELD)
local done = find_result(held[2])
if done == '0' then return {} end

-- What was popped is in a field of each pop, '<writer>.<number>'; the field 'times' lists them, with when it was.
local popped = redis.call('HMGET', KEYS[6], 'times', write_name())
if done then
  if popped[2] then return cmsgpack.unpack(popped[2]) end
  return redis.error_reply('ERR these messages were popped before, over a minute ago')
end

local turns = turn_count()
if not turns then return redis.error_reply('ERR the turn counter is not a number') end

local now, times = tonumber(milliseconds()), {}
for name, at in string.gmatch(popped[1] or '', '([^=]+)=(%d+);') do
  local writer, number = string.match(name, '^(%x+)%.(%d+)$')
  local is_known = writer == WRITER and tonumber(number) < NUMBER and OPEN ~= '' and not has(OPEN, tonumber(number))
  times[#times + 1] = {name, at, is_known or now - at > MINUTE}
end

local taken = redis.call('RPOP', KEYS[1], ARGV[3])
if not taken or #taken == 0 then
  if held[1] then record_unchanged('0') end
  return {}
end

local entries, started = {}, 0
for i = #taken, 1, -1 do
  entries[#entries + 1] = taken[i]
  if begins(taken[i], ARGV[4]) then started = started + 1 end
end
started = math.min(started, turns)
if started > 0 then redis.call('DECRBY', KEYS[3], started) end

local listed = {}
for _, pop in ipairs(times) do
  if pop[3] then redis.call('HDEL', KEYS[6], pop[1]) else listed[#listed + 1] = pop[1] .. '=' .. pop[2] .. ';' end
end
listed[#listed + 1] = write_name() .. '=' .. string.format('%d', now) .. ';'
redis.call('HSET', KEYS[6], write_name(), cmsgpack.pack(entries), 'times', table.concat(listed))
redis.call('PEXPIREAT', KEYS[6], now + math.min(MINUTE, tonumber(ARGV[2]) or MINUTE))
commit(held[1], '1', false, 'epoch', write_name())
return entries
