-- Give a claim up, so that the next turn can claim the summary at once.
-- Python half: Release in ops/summary.py
-- KEYS  see common.lua, 6 lease
-- ARGV  1 token of the claim

local holder = redis.call('GET', KEYS[6])
if redis.call('HGET', KEYS[2], 'claim') == ARGV[1] then redis.call('HDEL', KEYS[2], 'claim') end
if holder == ARGV[1] then redis.call('UNLINK', KEYS[6]) end
