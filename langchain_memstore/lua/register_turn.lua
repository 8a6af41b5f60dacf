-- Count one turn by hand, once for each batch id.
-- KEYS, ARGV  see common.lua
-- returns 'turns'

local held = redis.call('HMGET', KEYS[2], 'batches')
local done = recall(held[1], ARGV[1])
if done then return done end

local turns = redis.call('INCR', KEYS[3])
return commit(held[1], tostring(turns), turns == 1)
