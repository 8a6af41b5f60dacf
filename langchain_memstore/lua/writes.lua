-- How a write is done once for each write id; sessions and values share it. Every such script takes
-- KEYS  2 the hash that tells of writes: `meta` of the session, or of the value
-- ARGV  1 write id: '<writer>.<number>.<open>', of which the last are the lower numbers that are under way too, as in
--       '17-18,20', '-' where there are none; those of version 0.1 have no open numbers, or no number, which is 0 then
-- Python half: ops/write_ids.py
--
-- Of each writer the hash holds
--   writer:<writer>           '<milliseconds since 1970>:<highest number>:<open numbers below>:<gaps>=<its result>'; a
--                             gap is an open number that was not seen yet
--   result:<writer>.<number>  the result of each open number that was seen
-- A lower number that is not open is refused when it comes: its writer has given it up. Fields seen:<writer> are of
-- version 0.1, which forgets them by rules of its own.

local DAY, EVERY, MOST_WRITERS = 86400000, 64, 1024
local WRITER, DIGITS, OPEN = string.match(ARGV[1], '^(%x+)%.?(%d*)%.?([%d,%-]*)$')
local FIELD = 'writer:' .. (WRITER or '')
local NUMBER = tonumber(DIGITS) or 0

-- What the field of the writer says; find_result reads it.
local highest, open, gaps, last = -1, '', '', nil

-- The write's name, whatever is open.
local function write_name()
  return WRITER .. '.' .. NUMBER
end

local function milliseconds()
  local now = redis.call('TIME')
  return string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000)) -- a number would be written out at each use
end

local function has(text, number)
  for first, dash, final in string.gmatch(text, '(%d+)(%-?)(%d*)') do
    if number >= tonumber(first) and number <= tonumber(dash == '-' and final or first) then return true end
  end
  return false
end

-- Whether version 0.1 has seen this write: '<milliseconds since 1970>:<highest number>', then ',<gap>' of each.
local function was_seen_before(seen)
  local top, holes = string.match(seen or '', '^%d+:(%d+)([,%d%-]*)$')
  return top and NUMBER <= tonumber(top) and not has(holes, NUMBER)
end

-- The result of an earlier call with this write id, empty where it is not known any more; nil where there was none.
local function find_result(held)
  if not WRITER then error('this is no write id', 0) end
  if OPEN == '' and was_seen_before(redis.call('HGET', KEYS[2], 'seen:' .. WRITER)) then return '' end
  if not held then return nil end
  highest, open, gaps, last = string.match(held, '^%d+:(%d+):([%d,%-]*):([%d,%-]*)=(.*)$')
  if not highest then error('what is held of a writer is not of this package', 0) end
  highest = tonumber(highest)
  if NUMBER > highest then return nil end
  if NUMBER == highest then return last end
  local done = redis.call('HGET', KEYS[2], 'result:' .. write_name())
  if done then return done end
  if has(gaps, NUMBER) then return nil end
  if has(open, NUMBER) then return '' end
  error('this write was sent too long ago: whether it was done is not known', 0)
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

-- Keep that this write was done, where others are open or were.
local function record_among_open(result, now, ...)
  -- Numbers in ascending order, as runs of a first and a last one.
  local function runs_of(text)
    local runs = {}
    for first, dash, final in string.gmatch(text, '(%d+)(%-?)(%d*)') do
      first = tonumber(first)
      runs[#runs + 1] = {first, dash == '-' and tonumber(final) or first}
    end
    return runs
  end

  local function text_of(runs)
    local texts = {}
    for i, run in ipairs(runs) do
      texts[i] = run[1] == run[2] and string.format('%d', run[1]) or string.format('%d-%d', run[1], run[2])
    end
    return table.concat(texts, ',')
  end

  -- The numbers that are among some, and among others; or those that are not.
  local function among(some, others, wanted)
    local runs, i = {}, 1
    local function add(first, final)
      if first > final then return end
      if #runs > 0 and runs[#runs][2] == first - 1 then
        runs[#runs][2] = final
      else
        runs[#runs + 1] = {first, final}
      end
    end
    for _, run in ipairs(some) do
      local first = run[1]
      while others[i] and others[i][2] < first do i = i + 1 end
      local j = i
      while others[j] and others[j][1] <= run[2] do
        if wanted then
          add(math.max(first, others[j][1]), math.min(run[2], others[j][2]))
        else
          add(first, others[j][1] - 1)
        end
        first = others[j][2] + 1
        j = j + 1
      end
      if not wanted then add(first, run[2]) end
    end
    return runs
  end

  local held_open, held_gaps = runs_of(open), runs_of(gaps)
  local held_results = among(held_open, held_gaps, false)
  local now_open = OPEN == '' and NUMBER > 0 and {{0, NUMBER - 1}} or runs_of(OPEN)
  if NUMBER > highest then
    if highest >= 0 then
      held_open[#held_open + 1] = {highest, highest}
      if OPEN == '' or has(OPEN, highest) then
        redis.call('HSET', KEYS[2], 'result:' .. WRITER .. '.' .. highest, last)
      end
    end
    if highest < NUMBER - 1 then
      held_open[#held_open + 1] = {highest + 1, NUMBER - 1}
      held_gaps[#held_gaps + 1] = {highest + 1, NUMBER - 1}
    end
    highest, last = NUMBER, result
  else -- what it knows is of numbers below it
    now_open[#now_open + 1] = {NUMBER, highest}
    held_gaps = among(held_gaps, {{NUMBER, NUMBER}}, false)
    redis.call('HSET', KEYS[2], 'result:' .. write_name(), result)
  end
  for _, run in ipairs(among(held_results, now_open, false)) do
    -- Never so many, unless somebody has damaged the field.
    for number = math.max(run[1], run[2] - 100000), run[2] do
      redis.call('HDEL', KEYS[2], 'result:' .. WRITER .. '.' .. number)
    end
  end
  open, gaps = text_of(among(held_open, now_open, true)), text_of(among(held_gaps, now_open, true))
  redis.call('HSET', KEYS[2], FIELD, string.format('%s:%d:%s:%s=%s', now, highest, open, gaps, last), ...)
end

-- Keep that this write was done, with its result, and the given fields.
local function record(result, now, ...)
  if highest < 0 then forget_writers(tonumber(now)) end
  if NUMBER > highest and OPEN == '-' and open == '' then
    redis.call('HSET', KEYS[2], FIELD, now .. ':' .. (DIGITS ~= '' and DIGITS or '0') .. '::=' .. result, ...)
  else
    record_among_open(result, now, ...)
  end
end

-- Keep that a write was done that has changed nothing. A server that is out of memory need not: it may be done again, or
-- is refused once its writer knows the outcome.
local function record_unchanged(result)
  local recorded, refusal = pcall(record, result, milliseconds())
  if recorded then return end
  if type(refusal) == 'table' then refusal = refusal.err end
  if not string.find(refusal, 'OOM', 1, true) then error(refusal, 0) end
end
