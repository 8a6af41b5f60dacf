-- Count one turn by hand, once for each write id.
-- Python half: RegisterTurn in ops/session.py
-- KEYS, ARGV  see common.lua
-- returns 'turns'

local held = redis.call('HMGET', KEYS[2], 'batches', FIELD)
local done = find_result(held[2])
if done then return done ~= '' and done or redis.call('GET', KEYS[3]) or '0' end

local turns = redis.call('INCR', KEYS[3])
return commit(held[1], tostring(turns), turns == 1)
