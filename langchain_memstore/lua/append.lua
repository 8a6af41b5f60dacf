-- Append entries to a session and bound its window, once for each write id.
-- Python half: Append in ops/session.py
-- KEYS  see common.lua
-- ARGV  3 how many of the entries start a turn, 4 most messages (0: no bound), 5 most turns (0: no bound),
--       6 prefixes of the entries that never head a window, 7 prefixes of the entries that start a turn,
--       8 whether every window starts with a turn where it can (0, 1),
--       9 most entries to keep waiting for a summary (0: none wait),
--       10 pairs of prefixes: an entry that follows another so never heads a window, 11.. the entries
-- returns 'messages in the window,total ever appended,turns,messages that left the window,messages that wait,
--          messages lost of those that waited,turns since the last summary'

local FIRST = 11 -- where the entries start
local held = redis.call('HMGET', KEYS[2], 'batches', 'total', 'covered', 'lost', FIELD)
local done = find_result(held[5])
if done and done ~= '' then return done end

-- Everything that could fail comes before the first write: a script that fails is not rolled back.
local turns = turn_count()
if not turns then return redis.error_reply('ERR the turn counter is not a number') end
local before, covered, lost_before = as_count(held[2]), as_count(held[3]), as_count(held[4])
if not (before and covered and lost_before) then return redis.error_reply(NO_COUNTER) end
local max_evicted = tonumber(ARGV[9])
local evicted = max_evicted > 0 and redis.call('LLEN', KEYS[5]) or 0
if done then
  local counters = {redis.call('LLEN', KEYS[1]), before, turns, 0, evicted, 0, turns - covered}
  return table.concat(counters, ',')
end

local length
for first = FIRST, #ARGV, 1000 do
  length = redis.call('RPUSH', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
local added = #ARGV - FIRST + 1
local new = length == added

local started = tonumber(ARGV[3])
if started > 0 then
  local now = redis.call('INCRBY', KEYS[3], started)
  new = new or turns == 0
  turns = now
end

local function turns_start(most)
  for last = length - 1, 0, -50 do
    local first = math.max(last - 49, 0)
    local entries = redis.call('LRANGE', KEYS[1], first, last)
    for i = #entries, 1, -1 do
      if begins(entries[i], ARGV[7]) then
        most = most - 1
        if most == 0 then return first + i - 1 end
      end
    end
  end
  return 0
end

-- Whether the entry at an index, which is not the first, may not be kept without the one before it.
local function is_bound(index)
  local entry = redis.call('LINDEX', KEYS[1], index)
  if begins(entry, ARGV[6]) then return true end
  if ARGV[10] == '' then return false end
  local before = redis.call('LINDEX', KEYS[1], index - 1)
  for first, second in string.gmatch(ARGV[10], '([^\n]+)\n([^\n]+)') do
    if begins(before, first) and begins(entry, second) then return true end
  end
  return false
end

-- As window.legal_start: results go with their call; where that leaves nothing, the window starts at the call, and where
-- there is none, at the bound.
local function legal_start(start)
  local forward = start
  if ARGV[8] == '1' then
    while forward < length and not begins(redis.call('LINDEX', KEYS[1], forward), ARGV[7]) do forward = forward + 1 end
    if forward < length then return forward end
    forward = start
  end
  while forward < length and is_bound(forward) do forward = forward + 1 end
  if forward < length then return forward end
  local back = start
  while back > 0 and is_bound(back) do back = back - 1 end
  if back == 0 and begins(redis.call('LINDEX', KEYS[1], 0), ARGV[6]) then return start end
  return back
end

-- Let the oldest entries wait for a summary, and tell how many of those that wait were one too many.
local function evict(count)
  for first = 0, count - 1, 1000 do
    local entries = redis.call('LRANGE', KEYS[1], first, math.min(first + 999, count - 1))
    new = new or evicted == 0
    evicted = redis.call('RPUSH', KEYS[5], unpack(entries))
  end
  local lost = math.max(0, evicted - max_evicted)
  if lost > 0 then
    redis.call('LTRIM', KEYS[5], lost, -1)
    redis.call('HSET', KEYS[2], 'lost', lost_before + lost)
    evicted = max_evicted
  end
  return lost
end

-- The window had no more turns than it may have, so only a new turn is one too many.
local start, lost, most_messages, most_turns = 0, 0, tonumber(ARGV[4]), tonumber(ARGV[5])
if most_turns > 0 and started > 0 then start = turns_start(most_turns) end
if most_messages > 0 then start = math.max(start, length - most_messages) end
if start > 0 then
  start = legal_start(start)
  if start > 0 then
    if max_evicted > 0 then lost = evict(start) end
    redis.call('LTRIM', KEYS[1], start, -1)
  end
end

local total = (held[2] and before or length - added) + added
local counters = {length - start, total, turns, start, evicted, lost, turns - covered}
return commit(held[1], string.format('%d,%d,%d,%d,%d,%d,%d', unpack(counters)), new, 'total', total)
