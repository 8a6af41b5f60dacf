-- Replace a record of a working memory, and keep when it was created.
-- Python half: UpdateRecord in ops/kv_scripts.py
-- KEYS  1 the record
-- ARGV  1 TTL in milliseconds ('': no expiry; 0 or less: it is gone at once), 2 how records begin, 3 the new record without that beginning
-- returns 1, or 0 where there is no record

local held = redis.call('GET', KEYS[1])
if not held then return 0 end
local last = string.find(held, '"', #ARGV[2] + 1, true)
if string.sub(held, 1, #ARGV[2]) ~= ARGV[2] or not last then return redis.error_reply('ERR it is not a record') end

local record = string.sub(held, 1, last) .. ARGV[3]
if ARGV[1] == '' then
  redis.call('SET', KEYS[1], record)
elseif tonumber(ARGV[1]) <= 0 then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], record, 'PX', ARGV[1])
end
return 1
