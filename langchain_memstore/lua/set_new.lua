-- Set a value that is not there yet, once for each write id.
-- Python half: SetNew in ops/kv_scripts.py
-- KEYS  see values.lua
-- ARGV  2 TTL in milliseconds ('': no expiry), 3 the value
-- returns 1 where it was set, 0 where there was one

local done = find_done()
if done then return tonumber(done) end

local set
if ARGV[2] == '' then
  set = redis.call('SET', KEYS[1], ARGV[3], 'NX')
else
  set = redis.call('SET', KEYS[1], ARGV[3], 'NX', 'PX', ARGV[2])
end
if not set then
  record_nothing('0')
  return 0
end
record_done('1', MINUTE)
return 1
