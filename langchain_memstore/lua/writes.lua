-- How a write is done once for each write id; sessions and values share it. Every such script takes
-- KEYS  2 the hash that tells of writes: `meta` of the session, or of the value
-- ARGV  1 write id: '<writer>.<number>.<floor>', of which the floor is the lowest number whose outcome the writer does
--       not know yet; those of version 0.1 have no floor, or no number, which is 0 then
-- Python half: ops/write_ids.py
--
-- Of each writer the hash holds
--   writer:<writer>           '<milliseconds since 1970>:<highest number>:<floor>', then ',<first>-<last>' of each gap,
--                             which is a request under way, then '=<result of the highest>'
--   result:<writer>.<number>  the result of each other write from the floor on
-- A number below the floor that comes yet is refused: its writer has given it up. The fields of writers of version 0.1
-- are called seen:<writer>; that version forgets them by rules of its own.

local DAY, EVERY, MOST_WRITERS = 86400000, 64, 1024
local WRITER, NUMBER, FLOOR = string.match(ARGV[1], '^(%x+)%.?(%d*)%.?(%d*)$')
local SEEN = (FLOOR ~= '' and 'writer:' or 'seen:') .. (WRITER or '')
local RESULT = 'result:' .. (WRITER or '') .. '.'
NUMBER, FLOOR = tonumber(NUMBER) or 0, tonumber(FLOOR) or 0

-- What the field of the writer says; find_result parses it.
local highest, floor, gaps, last = -1, 0, '', nil

local function milliseconds()
  local now = redis.call('TIME')
  return string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000)) -- a number would be written out at each use
end

-- The result of an earlier call with this write id, empty where it is not known any more; nil where there was none.
local function find_result(seen)
  if not WRITER then error('this is no write id', 0) end
  if not seen then return nil end
  highest, floor, gaps, last = string.match(seen, '^%d+:(%d+):?(%d*)([,%d%-]*)(.*)$')
  if not highest or last ~= '' and string.sub(last, 1, 1) ~= '=' then
    error('what is held of a writer is not of this package', 0)
  end
  highest, floor, last = tonumber(highest), tonumber(floor) or 0, string.sub(last, 2)
  if NUMBER > highest then return nil end
  if NUMBER == highest then return last end
  local done = redis.call('HGET', KEYS[2], RESULT .. NUMBER)
  if done then return done end
  if NUMBER < floor then error('this write was sent too long ago: whether it was done is not known', 0) end
  for first, final in string.gmatch(gaps, ',(%d+)%-(%d+)') do
    if NUMBER >= tonumber(first) and NUMBER <= tonumber(final) then return nil end
  end
  return ''
end

-- Forget the results of the writes of this writer that are below a floor, which are those of no gap.
local function forget_results(below, runs)
  local names, number = {}, floor
  local function forget(before)
    for each = number, before - 1 do
      names[#names + 1] = RESULT .. each
      if #names == 1000 then
        redis.call('HDEL', KEYS[2], unpack(names))
        names = {}
      end
    end
  end
  for _, run in ipairs(runs) do
    if run[1] >= below then break end
    forget(run[1])
    number = run[2] + 1
  end
  forget(below)
  if #names > 0 then redis.call('HDEL', KEYS[2], unpack(names)) end
end

-- Forget the writers whose last write was a day ago, and where there are too many, all but those that wrote last.
local function forget_writers(now)
  local held = redis.call('HLEN', KEYS[2])
  if held == 0 or held % EVERY > 0 and held < 3 * MOST_WRITERS then return end
  local fields, writers, kept = redis.call('HGETALL', KEYS[2]), {}, {}
  for i = 1, #fields, 2 do
    local writer = string.match(fields[i], '^writer:(.*)') or string.match(fields[i], '^seen:(.*)')
    local at = writer and tonumber(string.match(fields[i + 1], '^%d+')) or 0
    if writer and now - at <= DAY then writers[#writers + 1] = {at, writer} end
  end
  if #writers >= MOST_WRITERS then
    table.sort(writers, function(one, other) return one[1] > other[1] end)
  end
  for i = 1, #writers < MOST_WRITERS and #writers or MOST_WRITERS / 2 do kept[writers[i][2]] = true end
  for i = 1, #fields, 2 do
    local kind, writer = string.match(fields[i], '^(%l+):(%x*)')
    if (kind == 'writer' or kind == 'seen' or kind == 'result') and not kept[writer] then redis.call('HDEL', KEYS[2], fields[i]) end
  end
end

-- Keep that this write was done, with its result, and the given fields.
local function record(result, now, ...)
  local runs, new_floor = '', math.max(floor, FLOOR)
  local function add(first, final) -- a gap, as far as it is not below the floor
    if first < new_floor then first = new_floor end
    if first <= final then runs = string.format('%s,%d-%d', runs, first, final) end
  end
  if highest < 0 then forget_writers(tonumber(now)) end
  local known = math.min(new_floor, highest) -- below it, the writer knows all results
  if gaps ~= '' or NUMBER < highest or floor < known then
    local held = {}
    for first, final in string.gmatch(gaps, ',(%d+)%-(%d+)') do held[#held + 1] = {tonumber(first), tonumber(final)} end
    if floor < known then forget_results(known, held) end
    for _, run in ipairs(held) do
      if NUMBER >= run[1] and NUMBER <= run[2] then
        add(run[1], NUMBER - 1)
        add(NUMBER + 1, run[2])
      else
        add(run[1], run[2])
      end
    end
  end
  if NUMBER > highest then
    add(highest + 1, NUMBER - 1)
    if highest >= new_floor then redis.call('HSET', KEYS[2], RESULT .. highest, last) end
    highest, last = NUMBER, result
  else
    redis.call('HSET', KEYS[2], RESULT .. NUMBER, result)
  end
  redis.call('HSET', KEYS[2], SEEN, string.format('%s:%d:%d%s=%s', now, highest, new_floor, runs, last), ...)
end

-- Keep that a write was done that has changed nothing. A server that is out of memory need not: the number stays a gap
-- until the writer's floor has passed it.
local function record_unchanged(result)
  local recorded, refusal = pcall(record, result, milliseconds())
  if recorded then return end
  if type(refusal) == 'table' then refusal = refusal.err end
  if not string.find(refusal, 'OOM', 1, true) then error(refusal, 0) end
end
