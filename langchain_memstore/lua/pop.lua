-- Take the newest entries off a session, once for each write id.
-- Python half: Pop in ops/session.py
-- KEYS  see common.lua
-- ARGV  3 how many, 4 prefixes of the entries that start a turn
-- returns the entries, oldest first

local held = redis.call('HMGET', KEYS[2], 'batches', 'popped', SEEN)
local popped = held[2] and cmsgpack.unpack(held[2]) or {}
local done = find_result(held[1], held[3])
if done == '0' then return {} end
if done then
  for _, pop in ipairs(popped) do
    if pop[1] == ARGV[1] then return pop[2] end
  end
  return redis.error_reply('ERR these messages were popped before, and others came since')
end

local turns = turn_count()
if not turns then return redis.error_reply('ERR the turn counter is not a number') end

local taken = redis.call('RPOP', KEYS[1], ARGV[3])
if not taken or #taken == 0 then
  record_unchanged(held[1], held[3], '0')
  return {}
end

local entries, started = {}, 0
for i = #taken, 1, -1 do
  entries[#entries + 1] = taken[i]
  if begins(taken[i], ARGV[4]) then started = started + 1 end
end
started = math.min(started, turns)
if started > 0 then redis.call('DECRBY', KEYS[3], started) end

-- The last few pops are kept for a repeated call until the conversation goes on.
popped[#popped + 1] = {ARGV[1], entries}
if #popped > 8 then table.remove(popped, 1) end
commit(held[1], held[3], '', false, 'epoch', ARGV[1], 'popped', cmsgpack.pack(popped))
return entries
