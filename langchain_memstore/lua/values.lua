-- What the scripts on values share. Every one that is done once for each write id takes
-- KEYS  1 the value, 2 the hash that tells of writes on it
-- ARGV  1 write id, and more of its own

local MINUTE = 60000 -- milliseconds

-- Find what an earlier call with this write id did; nil where there was none.
local function find_done()
  return find_result(redis.call('HGET', KEYS[2], FIELD))
end

local function remember(time)
  if redis.call('PTTL', KEYS[2]) < time then redis.call('PEXPIRE', KEYS[2], time) end
end

-- Keep what a call has done, for so many milliseconds at least.
local function record_done(result, time)
  record(result, milliseconds())
  remember(time)
end

-- Keep that a call has changed nothing.
local function record_nothing(result)
  record_unchanged(result)
  remember(MINUTE)
end
