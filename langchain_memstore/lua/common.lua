-- What the scripts share. Every script on a session takes
-- KEYS  1 messages, 2 meta, 3 turns, 4 summary, 5 evicted (the keys that expire together)
-- ARGV  1 batch id, 2 TTL in milliseconds ('': no expiry), and more of its own

local RECENT = 1024 -- bytes of recent batch ids and results to keep
local MINUTE, DAY = 60000, 86400000 -- milliseconds

-- The result of an earlier call with this batch id; nil where there was none.
local function recall(batches, id)
  local _, last = string.find(batches or '', id .. '=', 1, true)
  return last and string.sub(batches, last + 1, string.find(batches, ';', last, true) - 1)
end

-- The batches with one more, less the oldest where they grow too long.
local function noted(batches, id, result)
  local recent = (batches or '') .. id .. '=' .. result .. ';'
  if #recent > RECENT then
    recent = string.sub(recent, string.find(recent, ';', #recent - RECENT, true) + 1)
  end
  return recent
end

-- Keep what a call that changes a value has done, for the milliseconds in which it may be repeated.
local function remember(key, batches, id, result, time)
  redis.call('SET', key, noted(batches, id, result), 'PX', math.max(time, redis.call('PTTL', key)))
end

-- The turn counter; nothing where its key holds something else, on which INCRBY would fail after other writes.
local function turn_count(key)
  local held = redis.call('GET', key)
  if not held then return 0 end
  return #held < 16 and string.find(held, '^%d+$') and tonumber(held)
end

local function milliseconds()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Make the keys expire together. Skipped while less than a hundredth of the TTL has worn off, unless a key is new.
local function expire(ttl, now, new)
  local left = redis.call('PTTL', KEYS[2])
  if ttl == '' then
    if left < 0 then return end
    for i = 1, 5 do redis.call('PERSIST', KEYS[i]) end
    return
  end
  ttl = tonumber(ttl)
  if new or left < 0 or left > ttl or ttl - left > ttl / 100 then
    for i = 1, 5 do redis.call('PEXPIREAT', KEYS[i], now + ttl) end
  end
end

-- Write what every change leaves in meta: the batch id with its result, the time, and the given fields.
local function commit(batches, result, new, ...)
  local now = milliseconds()
  if not batches then
    redis.call('HSET', KEYS[2], 'schema', 1, 'epoch', ARGV[1], 'created', now)
  end
  redis.call('HSET', KEYS[2], 'batches', noted(batches, ARGV[1], result), 'updated', now, ...)
  expire(ARGV[2], now, new or not batches)
  return result
end

-- Whether an entry begins with one of the prefixes, which are separated by newlines.
local function begins(entry, prefixes)
  for prefix in string.gmatch(prefixes, '[^\n]+') do
    if string.sub(entry, 1, #prefix) == prefix then return true end
  end
  return false
end
