-- Give a lock up, and have its token void from now on.
-- Python half: GiveUp in ops/lock.py
-- KEYS  1 the lock, 2 what calls have done
-- ARGV  1 token
-- returns 1 where the token had it, else 0

local results = redis.call('GET', KEYS[2])
local done = find_result(results, ARGV[1])
if done then return tonumber(done) end

local held = redis.call('GET', KEYS[1]) == ARGV[1]
if held then redis.call('UNLINK', KEYS[1]) end
record_result(results, ARGV[1], held and '1' or '0', MINUTE)
return held and 1 or 0
