-- Take a lock, unless somebody else has it; whoever asks again with the token that has it has it anew.
-- Python half: Acquire in ops/lock.py
-- KEYS  see values.lua; the value is the lock
-- ARGV  2 token, 3 milliseconds that the lock is held
-- returns 0, or the milliseconds for which another will have it (-1: it does not expire)

-- Who was told that another has it, or has given it up, is not given it by a request that is heard late.
local done = find_done()
if done then return tonumber(done) end

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then
  local ttl_ms = redis.call('PTTL', KEYS[1])
  if ttl_ms == 0 then ttl_ms = 1 end -- less than a millisecond is left
  record_nothing(tostring(ttl_ms))
  return ttl_ms
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 0
