-- Set the summary that a claim has led to, and let go of the entries that it covers.
-- Python half: Commit in ops/summary.py
-- KEYS  see common.lua, 6 lease
-- ARGV  3 the summary, 4 messages that were summarised or lost before the claim, 5 how many entries the summary covers
--       beyond, 6 turns when it was claimed, 7 token of the claim
-- returns 1, or 0 where the claim is no longer the session's last: it was claimed again, summarised by hand, cleared

local held = redis.call('HMGET', KEYS[2], 'batches', 'claim', 'summarized', 'lost', FIELD)
local done = find_result(held[5])
if done then return done == '1' and 1 or 0 end
if held[2] ~= ARGV[7] then
  if held[1] then record_unchanged('0') end
  return 0
end

-- Everything that could fail comes before the first write: a script that fails is not rolled back. That write is one
-- for which a server that is out of memory refuses the script.
local summarized, lost = as_count(held[3]), as_count(held[4])
if not (summarized and lost) then return redis.error_reply(NO_COUNTER) end
local holder = redis.call('GET', KEYS[6])
redis.call('GET', KEYS[4]) -- refuses a key of another type, which SET would overwrite
redis.call('LLEN', KEYS[5])
redis.call('SET', KEYS[4], ARGV[3])

-- Entries that were dropped from the waiting since the claim are covered all the same.
local count = tonumber(ARGV[5])
local dropped = math.min(count, summarized + lost - ARGV[4])
redis.call('LTRIM', KEYS[5], count - dropped, -1)
redis.call('HDEL', KEYS[2], 'claim')
if holder == ARGV[7] then redis.call('UNLINK', KEYS[6]) end
commit(held[1], '1', true, 'summarized', summarized + count, 'lost', lost - dropped, 'covered', ARGV[6])
return 1
