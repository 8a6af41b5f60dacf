-- Take a lock, unless somebody else has it; whoever asks again with the token that has it has it anew.
-- Python half: Acquire in ops/lock.py
-- KEYS  1 the lock, 2 what calls have done
-- ARGV  1 token, 2 milliseconds that the lock is held
-- returns 0, or the milliseconds for which another will have it (-1: it does not expire)

-- What was given up is not taken any more: a caller who was cancelled may be heard before his request is.
if find_result(redis.call('GET', KEYS[2]), ARGV[1]) then return -1 end

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  local ttl_ms = redis.call('PTTL', KEYS[1])
  return ttl_ms == 0 and 1 or ttl_ms -- less than a millisecond is left
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
