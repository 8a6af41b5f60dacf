-- Set the summary of a session, or remove it; a summary that is being made is refused then.
-- Python half: SetSummary in ops/session.py
-- KEYS  see common.lua
-- ARGV  3 the summary ('': remove it)

local held = redis.call('HMGET', KEYS[2], 'batches', FIELD)
if find_result(held[2]) then return end
local old = redis.call('GET', KEYS[4]) -- refuses a key of another type, which SET would overwrite

-- SET is first: where memory is short, a script is refused at its first write or not at all.
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[4], ARGV[3])
elseif old then
  redis.call('UNLINK', KEYS[4])
end
redis.call('HDEL', KEYS[2], 'claim')
if ARGV[3] == '' and not old then
  if held[1] then record_unchanged('') end
  return
end
commit(held[1], '', true)
