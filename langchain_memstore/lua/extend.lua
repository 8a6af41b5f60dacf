-- Hold a lock for longer.
-- Python half: Extend in ops/lock.py
-- KEYS  see values.lua; the value is the lock
-- ARGV  2 token, 3 milliseconds from now
-- returns 1, or 0 where the token has it no more

if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
