-- Take the newest entries off a session, once for each write id.
-- Python half: Pop in ops/session.py
-- KEYS  see common.lua, 6 popped
-- ARGV  3 how many, 4 prefixes of the entries that start a turn
-- returns the entries, oldest first

local MINUTE = 60000 -- milliseconds for which what was popped is kept for a repeated call, unless the session expires
local held = redis.call('HMGET', KEYS[2], 'batches', SEEN)
local done = find_result(held[2])
if done == '0' then return {} end

-- What this writer has popped and may not know yet: pairs of a number and entries. The field of a writer is called
-- '<writer>:<milliseconds since 1970>'; what others popped over a minute ago goes with the next pop.
local now, popped = tonumber(milliseconds()), {}
local kept, old = redis.call('HGETALL', KEYS[6]), {}
for i = 1, #kept, 2 do
  local writer, at = string.match(kept[i], '^(%x+):(%d+)$')
  if writer == WRITER then popped = cmsgpack.unpack(kept[i + 1]) end
  if writer == WRITER or not at or now - at > MINUTE then
    old[#old + 1] = kept[i]
  end
end
if done then
  for _, pop in ipairs(popped) do
    if pop[1] == NUMBER then return pop[2] end
  end
  return redis.error_reply('ERR these messages were popped before, over a minute ago')
end

local turns = turn_count()
if not turns then return redis.error_reply('ERR the turn counter is not a number') end

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

local unknown = {{NUMBER, entries}}
for _, pop in ipairs(popped) do
  if pop[1] >= FLOOR then unknown[#unknown + 1] = pop end
end
for _, name in ipairs(old) do redis.call('HDEL', KEYS[6], name) end
redis.call('HSET', KEYS[6], WRITER .. ':' .. now, cmsgpack.pack(unknown))
redis.call('PEXPIREAT', KEYS[6], now + math.min(MINUTE, tonumber(ARGV[2]) or MINUTE))
commit(held[1], '1', false, 'epoch', ARGV[1])
return entries
