-- What the session scripts share. Every script takes
-- KEYS  1 messages, 2 meta, 3 turns, 4 summary, 5 evicted (the keys that expire together)
-- ARGV  1 write id, 2 TTL in milliseconds ('': no expiry), and more of its own. After a '>' it is what is left of the TTL
--       of an operation that has waited: 0 or less where that has run out, and no session expires sooner for it

local SKEW = 20 -- milliseconds by which TTLs may differ that are read one after the other
local TRAIL = 128 -- bytes of the field `batches`: some seven changes
local WAITED = string.sub(ARGV[2], 1, 1) == '>'
local EXISTED = WAITED and redis.call('EXISTS', unpack(KEYS, 1, 5)) > 0

-- A counter as a number, 0 where there is none; nothing where it is something else, on which a script would fail after
-- it has written.
local function as_count(held)
  if not held then return 0 end
  return #held < 16 and string.find(held, '^%d+$') and tonumber(held)
end

local function turn_count()
  return as_count(redis.call('GET', KEYS[3]))
end

local NO_COUNTER = 'ERR a counter in meta is not a number'

-- Make the keys expire together. Skipped while less than a hundredth of the TTL has worn off of each, unless a key is
-- new, or somebody else has set when one of them expires.
local function expire(ttl, now, new)
  local call, least, most = redis.call, math.huge, -1
  for i = 1, 5 do
    local ttl_ms = call('PTTL', KEYS[i])
    if ttl_ms ~= -2 then
      if ttl_ms < least then least = ttl_ms end
      if ttl_ms > most then most = ttl_ms end
    end
  end
  if ttl == '' then
    if most < 0 then return end
    for i = 1, 5 do redis.call('PERSIST', KEYS[i]) end
    return
  end
  ttl = tonumber(WAITED and string.sub(ttl, 2) or ttl)
  if EXISTED then
    if most < 0 then return end
    ttl = math.max(ttl, most)
  end
  if new or least < 0 or most > ttl or most - least > SKEW or ttl - least > ttl / 100 then
    for i = 1, 5 do redis.call('PEXPIREAT', KEYS[i], now + ttl) end
  end
end

-- Write what every change leaves in meta: the write id with its result, the time, and the given fields. `batches` is the
-- trail of the last changes, by which a reader knows whether what it has read before still stands: a server that was
-- rolled back has another.
local function commit(trail, result, new, ...)
  local now = milliseconds()
  if not trail then
    redis.call('HSET', KEYS[2], 'schema', 1, 'epoch', write_name(), 'created', now)
  elseif string.find(trail, '=', 1, true) then
    redis.call('HDEL', KEYS[2], 'popped') -- by which version 0.1, the last to write, keeps what was popped
  end
  local changes = (trail or '') .. now .. '.' .. DIGITS .. ';'
  if #changes > TRAIL then
    changes = string.sub(changes, string.find(changes, ';', #changes - TRAIL, true) + 1)
  end
  record(result, now, 'batches', changes, 'updated', now, ...)
  expire(ARGV[2], now, new or not trail)
  return result
end

-- Whether an entry begins with one of the prefixes, which are separated by newlines.
local function begins(entry, prefixes)
  for prefix in string.gmatch(prefixes, '[^\n]+') do
    if string.sub(entry, 1, #prefix) == prefix then return true end
  end
  return false
end
