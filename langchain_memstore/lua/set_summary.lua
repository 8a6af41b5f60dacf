-- Set the summary of a session, or remove it.
-- KEYS  see common.lua
-- ARGV  3 the summary ('': remove it)

local held = redis.call('HMGET', KEYS[2], 'batches')
if recall(held[1], ARGV[1]) then return end

-- Asking for the old summary is how a key of another type is refused.
if ARGV[3] == '' then
  if not redis.call('GETDEL', KEYS[4]) then return end
else
  redis.call('SET', KEYS[4], ARGV[3], 'GET')
end
commit(held[1], '', true)
