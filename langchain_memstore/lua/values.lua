-- What the scripts on values share. Every one that is done once for each write id takes
-- KEYS  1 the value, 2 what calls have done to it
-- ARGV  1 write id, and more of its own

local RECENT = 1024 -- bytes of recent write ids and results to keep
local MINUTE, DAY = 60000, 86400000 -- milliseconds

-- The result of an earlier call with this write id; nil where there was none.
local function find_result(results, id)
  local _, last = string.find(results or '', id .. '=', 1, true)
  return last and string.sub(results, last + 1, string.find(results, ';', last, true) - 1)
end

-- Keep what a call that changes a value has done, for the milliseconds in which it may be repeated.
local function record_result(results, id, result, time)
  local recent = (results or '') .. id .. '=' .. result .. ';'
  if #recent > RECENT then
    recent = string.sub(recent, string.find(recent, ';', #recent - RECENT, true) + 1)
  end
  redis.call('SET', KEYS[2], recent, 'PX', math.max(time, redis.call('PTTL', KEYS[2])))
end
