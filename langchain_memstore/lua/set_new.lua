-- Set a value that is not there yet, once for each write id.
-- Python half: SetNew in ops/kv_scripts.py
-- KEYS  1 the value, 2 what calls have done
-- ARGV  1 write id, 2 TTL in milliseconds ('': no expiry), 3 the value
-- returns 1 where it was set, 0 where there was one

local results = redis.call('GET', KEYS[2])
local done = find_result(results, ARGV[1])
if done then return tonumber(done) end

local set
if ARGV[2] == '' then
  set = redis.call('SET', KEYS[1], ARGV[3], 'NX')
else
  set = redis.call('SET', KEYS[1], ARGV[3], 'NX', 'PX', ARGV[2])
end
if not set then return 0 end
record_result(results, ARGV[1], '1', MINUTE)
return 1
