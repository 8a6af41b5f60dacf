-- Delete a value, once for each write id.
-- Python half: Delete in ops/kv_scripts.py
-- KEYS  1 the value, 2 what calls have done
-- ARGV  1 write id
-- returns 1 where there was one, else 0

local results = redis.call('GET', KEYS[2])
local done = find_result(results, ARGV[1])
if done then return tonumber(done) end

if redis.call('UNLINK', KEYS[1]) == 0 then return 0 end
record_result(results, ARGV[1], '1', MINUTE)
return 1
