-- Start the TTL of a session anew.
-- Python half: Touch in ops/session.py
-- KEYS, ARGV  see common.lua
-- returns how many keys the session has

expire(ARGV[2], milliseconds(), true)
return redis.call('EXISTS', unpack(KEYS))
