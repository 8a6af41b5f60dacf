-- What the scripts on values share. Every one that is done once for each batch id takes
-- KEYS  1 the value, 2 what calls have done to it
-- ARGV  1 batch id, and more of its own

local RECENT = 1024 -- bytes of recent batch ids and results to keep
local MINUTE, DAY = 60000, 86400000 -- milliseconds

-- The result of an earlier call with this batch id; nil where there was none.
local function recall(batches, id)
  local _, last = string.find(batches or '', id .. '=', 1, true)
  return last and string.sub(batches, last + 1, string.find(batches, ';', last, true) - 1)
end

-- Keep what a call that changes a value has done, for the milliseconds in which it may be repeated.
local function remember(batches, id, result, time)
  local recent = (batches or '') .. id .. '=' .. result .. ';'
  if #recent > RECENT then
    recent = string.sub(recent, string.find(recent, ';', #recent - RECENT, true) + 1)
  end
  redis.call('SET', KEYS[2], recent, 'PX', math.max(time, redis.call('PTTL', KEYS[2])))
end
