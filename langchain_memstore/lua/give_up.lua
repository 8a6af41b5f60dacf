-- Give a lock up, and have its token void from now on.
-- Python half: GiveUp in ops/lock.py
-- KEYS  see values.lua; the value is the lock
-- ARGV  2 token
-- returns 1 where the token had it, else 0

local done = find_done()
if done then return tonumber(done) end

if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  record_nothing('0')
  return 0
end
redis.call('UNLINK', KEYS[1])
record_done('1', MINUTE)
return 1
