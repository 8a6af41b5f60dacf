-- Hold a lock for longer.
-- Python half: Extend in ops/lock.py
-- KEYS  1 the lock
-- ARGV  1 token, 2 milliseconds from now
-- returns 1, or 0 where the token has it no more

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
