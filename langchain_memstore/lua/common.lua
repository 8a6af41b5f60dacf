-- What the session scripts share. Every script takes
-- KEYS  1 messages, 2 meta, 3 turns, 4 summary, 5 evicted (the keys that expire together)
-- ARGV  1 write id, 2 TTL in milliseconds ('': no expiry), and more of its own

local RECENT = 512 -- bytes of recent write ids and results to keep

-- As in ops/write_ids.py: a write id is '<writer>.<number>', and meta has a field for each writer that tells which of its
-- numbers were seen: '<milliseconds since 1970>:<the highest>[:<the floor>]', then ',<first>-<last>' of each gap between.
-- What became of numbers up to the floor is not known any more: a write that comes with one is refused.
local WRITER, NUMBER = string.match(ARGV[1], '^(%x+)%.(%d+)$')
local SEEN = 'seen:' .. (WRITER or '')
local MOST_GAPS, MANY_WRITERS, MOST_WRITERS, DAY = 128, 64, 1024, 86400000
NUMBER = tonumber(NUMBER)

local function was_seen(seen)
  local highest, floor = string.match(seen, '^%d+:(%d+):?(%d*)[,%d%-]*$')
  if not highest then error('what meta holds of a writer is not of this package', 0) end
  if NUMBER > tonumber(highest) then return false end
  if floor ~= '' and NUMBER <= tonumber(floor) then
    error('this write was sent too long ago: whether it was done is not known', 0)
  end
  for first, last in string.gmatch(seen, ',(%d+)%-(%d+)') do
    if NUMBER >= tonumber(first) and NUMBER <= tonumber(last) then return false end
  end
  return true
end

local function adding(seen, now)
  local highest, rest = string.match(seen or '', '^%d+:(%d+)(.*)')
  highest = tonumber(highest or -1)
  if NUMBER == highest + 1 then return now .. ':' .. NUMBER .. (rest or '') end
  local gaps, ends = {}, {}
  local function add(first, last)
    if first <= last then
      gaps[#gaps + 1], ends[#ends + 1] = string.format(',%d-%d', first, last), last
    end
  end
  for first, last in string.gmatch(rest or '', ',(%d+)%-(%d+)') do
    first, last = tonumber(first), tonumber(last)
    if NUMBER >= first and NUMBER <= last then
      add(first, NUMBER - 1)
      add(NUMBER + 1, last)
    else
      add(first, last)
    end
  end
  if NUMBER > highest then
    add(highest + 1, NUMBER - 1)
    highest = NUMBER
  end
  local dropped = math.max(0, #gaps - MOST_GAPS)
  local floor = dropped > 0 and string.format(':%d', ends[dropped]) or string.match(rest or '', '^:%d+') or ''
  return string.format('%d:%d', now, highest) .. floor .. table.concat(gaps, '', dropped + 1)
end

-- Forget the writers whose last write was a day ago, and where there are too many, all but those that wrote last.
local function forget_writers(now)
  if redis.call('HLEN', KEYS[2]) < MANY_WRITERS then return end
  local fields, writers = redis.call('HGETALL', KEYS[2]), {}
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 5) == 'seen:' then
      local at = tonumber(string.match(fields[i + 1], '^%d+')) or 0
      if now - at > DAY then
        redis.call('HDEL', KEYS[2], fields[i])
      else
        writers[#writers + 1] = {at, fields[i]}
      end
    end
  end
  if #writers < MOST_WRITERS then return end
  table.sort(writers, function(one, other) return one[1] > other[1] end)
  for i = MOST_WRITERS / 2 + 1, #writers do redis.call('HDEL', KEYS[2], writers[i][2]) end
end

-- The result of an earlier call with this write id, empty where it was long ago; nil where there was none.
local function find_result(results, seen)
  local _, last = string.find(results or '', ARGV[1] .. '=', 1, true)
  if last then return string.sub(results, last + 1, string.find(results, ';', last, true) - 1) end
  return seen and was_seen(seen) and '' or nil
end

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

local function milliseconds()
  local now = redis.call('TIME')
  return string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000)) -- a number would be written out at each use
end

-- Make the keys expire together. Skipped while less than a hundredth of the TTL has worn off, unless a key is new.
local function expire(ttl, now, new)
  local ttl_ms = redis.call('PTTL', KEYS[2])
  if ttl == '' then
    if ttl_ms < 0 then return end
    for i = 1, 5 do redis.call('PERSIST', KEYS[i]) end
    return
  end
  ttl = tonumber(ttl)
  if new or ttl_ms < 0 or ttl_ms > ttl or ttl - ttl_ms > ttl / 100 then
    for i = 1, 5 do redis.call('PEXPIREAT', KEYS[i], now + ttl) end
  end
end

-- Keep that this write was done, with its result, and the given fields.
local function record(results, seen, result, now, ...)
  local recent = (results or '') .. ARGV[1] .. '=' .. result .. ';'
  if #recent > RECENT then
    recent = string.sub(recent, string.find(recent, ';', #recent - RECENT, true) + 1)
  end
  if WRITER then
    if not seen then forget_writers(tonumber(now)) end
    redis.call('HSET', KEYS[2], SEEN, adding(seen, now), 'batches', recent, ...)
  else
    redis.call('HSET', KEYS[2], 'batches', recent, ...)
  end
end

-- Write what every change leaves in meta: the write id with its result, the time, and the given fields.
local function commit(results, seen, result, new, ...)
  local now = milliseconds()
  if not results then
    redis.call('HSET', KEYS[2], 'schema', 1, 'epoch', ARGV[1], 'created', now)
  end
  record(results, seen, result, now, 'updated', now, ...)
  expire(ARGV[2], now, new or not results)
  return result
end

-- Write that this write was done, which has changed nothing; a session that does not exist has nothing to remember.
local function record_unchanged(results, seen, result)
  if results then record(results, seen, result, milliseconds()) end
end

-- Whether an entry begins with one of the prefixes, which are separated by newlines.
local function begins(entry, prefixes)
  for prefix in string.gmatch(prefixes, '[^\n]+') do
    if string.sub(entry, 1, #prefix) == prefix then return true end
  end
  return false
end
