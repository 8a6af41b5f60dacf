-- Add to a counter, once for each write id.
-- Python half: Increment in ops/kv_scripts.py
-- KEYS  see values.lua; the value is the counter
-- ARGV  2 TTL in milliseconds of a counter that is made now ('': no expiry; 0 or less: it is gone at once),
--       3 what to add
-- returns the counter, as text: a number of Lua holds no more than 53 bits

local done = find_done()
if done then return done end

local new = redis.call('EXISTS', KEYS[1]) == 0
local added = redis.pcall('INCRBY', KEYS[1], ARGV[3])
if type(added) == 'table' and added.err then
  if not string.find(added.err, 'integer or out of range') and not string.find(added.err, 'overflow') then return added end
  return redis.error_reply('ERR its value is not a whole number of 64 bits, or would not be')
end
local counter = redis.call('GET', KEYS[1])
if new and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end

-- Remembered for as long as there is something to count twice; a day at most, for an outage may lie in between.
local ttl_ms = redis.call('PTTL', KEYS[1])
record_done(counter, (ttl_ms == -1 or ttl_ms > DAY) and DAY or math.max(ttl_ms, MINUTE))
return counter
