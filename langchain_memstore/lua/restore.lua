-- Set a session to a state, as one and once for each write id; what exists is replaced only where that is asked for.
-- Python half: Restore in ops/transfer.py
-- KEYS  see common.lua, 6 lease
-- ARGV  3 what the state was made of, 4 whether to replace what exists (0, 1), 5 whether to write (0, 1), 6 the summary,
--       7 turns, 8 total, 9 messages that summaries have covered, 10 messages lost, 11 turns when the last summary was
--       claimed, 12 when it was created, 13 when it was last written to ('': now), 14 how many of the entries wait for a
--       summary, 15.. the entries: those that wait, then those of the window
-- returns 'outcome,messages in the window,messages that wait'; the outcome is made, replaced, same (the session exists,
--         and was made of the same) or exists

local FIRST = 15 -- where the entries start
local held = redis.call('HMGET', KEYS[2], 'batches', 'origin', FIELD)
local done = find_result(held[3])
if done then return done ~= '' and done or 'same,0,0' end

local outcome = 'made'
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]) > 0 then
  outcome = ARGV[4] == '1' and 'replaced' or held[2] == ARGV[3] and 'same' or 'exists'
end
if ARGV[5] == '0' then return outcome .. ',0,0' end
if outcome == 'same' or outcome == 'exists' then
  if held[1] then record_unchanged(outcome .. ',0,0') end
  return outcome .. ',0,0'
end

-- SET is first, and does nothing where there is no lease: where memory is short, a script is refused at its first write
-- or not at all.
redis.call('SET', KEYS[6], '', 'XX')
local writes = {} -- what tells of writes that were done before, and may be sent again
local fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
  local kind = string.match(fields[i], '^%l+:')
  if kind == 'writer:' or kind == 'seen:' or kind == 'result:' then
    writes[#writes + 1], writes[#writes + 2] = fields[i], fields[i + 1]
  end
end
for i = 1, 6 do redis.call('UNLINK', KEYS[i]) end
for i = 1, #writes, 2000 do redis.call('HSET', KEYS[2], unpack(writes, i, math.min(i + 1999, #writes))) end

local function push(key, first, last)
  local length = 0
  for from = first, last, 1000 do
    length = redis.call('RPUSH', KEYS[key], unpack(ARGV, from, math.min(from + 999, last)))
  end
  return length
end

local now, window = milliseconds(), FIRST + ARGV[14]
local evicted = push(5, FIRST, window - 1)
local messages = push(1, window, #ARGV)
if ARGV[6] ~= '' then redis.call('SET', KEYS[4], ARGV[6]) end
if ARGV[7] ~= '0' then redis.call('SET', KEYS[3], ARGV[7]) end

local result = table.concat({outcome, messages, evicted}, ',')
return commit(nil, result, true, 'origin', ARGV[3], 'total', ARGV[8], 'summarized', ARGV[9], 'lost', ARGV[10],
  'covered', ARGV[11], 'created', ARGV[12] ~= '' and ARGV[12] or now, 'updated', ARGV[13] ~= '' and ARGV[13] or now)
