-- Append entries to a session and bound its window, once for each batch id.
-- KEYS  see common.lua
-- ARGV  3 how many of the entries start a turn, 4 most messages (0: no bound), 5 most turns (0: no bound),
--       6 prefixes of the entries that never head a window, 7 prefixes of the entries that start a turn, 8.. the entries
-- returns 'messages in the window,total ever appended,turns,messages that left the window'

local held = redis.call('HMGET', KEYS[2], 'batches', 'total', 'popped')
local done = recall(held[1], ARGV[1])
if done then return done end

-- Everything that could fail comes before the first write: a script that fails is not rolled back.
local turns = turn_count(KEYS[3])
if not turns then return redis.error_reply('ERR the turn counter is not a number') end

local length
for first = 8, #ARGV, 1000 do
  length = redis.call('RPUSH', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
local added = #ARGV - 7
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

local function is_result(index)
  return begins(redis.call('LINDEX', KEYS[1], index), ARGV[6])
end

-- As window.legal_start: results go with their call; where that leaves nothing, the window starts at the call.
local function legal_start(start)
  local forward = start
  while forward < length and is_result(forward) do forward = forward + 1 end
  if forward < length then return forward end
  while start > 0 and is_result(start) do start = start - 1 end
  return start
end

local start, most_messages, most_turns = 0, tonumber(ARGV[4]), tonumber(ARGV[5])
if most_turns > 0 then start = turns_start(most_turns) end
if most_messages > 0 then start = math.max(start, length - most_messages) end
if start > 0 then
  start = legal_start(start)
  if start > 0 then redis.call('LTRIM', KEYS[1], start, -1) end
end

if held[3] then redis.call('HDEL', KEYS[2], 'popped') end
local total = (held[2] or length - added) + added
return commit(held[1], length - start .. ',' .. total .. ',' .. turns .. ',' .. start, new, 'total', total)
