-- Claim the summary of a session, where one is due and nobody else has claimed it.
-- Python half: Claim in ops/summary.py
-- KEYS  see common.lua, 6 lease
-- ARGV  1 token, 3 milliseconds that the claim keeps others out, 4 turns that must have passed since the last summary
-- returns {messages that were summarised or lost before, turns, summary, {the entries that wait}}, or nil

local held = redis.call('HMGET', KEYS[2], 'summarized', 'lost', 'covered', 'claim')
local holder = redis.call('GET', KEYS[6])
if holder and holder == held[4] and holder ~= ARGV[1] then return false end

local entries = redis.call('LRANGE', KEYS[5], 0, -1)
local turns = turn_count()
if not turns then return redis.error_reply('ERR the turn counter is not a number') end
local summarized, lost, covered = as_count(held[1]), as_count(held[2]), as_count(held[3])
if not (summarized and lost and covered) then return redis.error_reply(NO_COUNTER) end
if #entries == 0 or turns - covered < tonumber(ARGV[4]) then return false end

local summary = redis.call('GET', KEYS[4])
redis.call('SET', KEYS[6], ARGV[1], 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'claim', ARGV[1])
return {summarized + lost, turns, summary or '', entries}
