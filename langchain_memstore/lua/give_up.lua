-- Give a lock up, and have its token void from now on.
-- KEYS  1 the lock, 2 what calls have done
-- ARGV  1 token
-- returns 1 where the token had it, else 0

local batches = redis.call('GET', KEYS[2])
local done = recall(batches, ARGV[1])
if done then return tonumber(done) end

local held = redis.call('GET', KEYS[1]) == ARGV[1]
if held then redis.call('UNLINK', KEYS[1]) end
remember(batches, ARGV[1], held and '1' or '0', MINUTE)
return held and 1 or 0
