-- Delete a value, once for each write id.
-- Python half: Delete in ops/kv_scripts.py
-- KEYS, ARGV  see values.lua
-- returns 1 where there was one, else 0

local done = find_done()
if done then return tonumber(done) end

local deleted = redis.call('UNLINK', KEYS[1])
record_done(tostring(deleted), MINUTE)
return deleted
