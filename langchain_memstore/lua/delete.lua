-- Delete a value, once for each batch id.
-- KEYS  1 the value, 2 what calls have done
-- ARGV  1 batch id
-- returns 1 where there was one, else 0

local batches = redis.call('GET', KEYS[2])
local done = recall(batches, ARGV[1])
if done then return tonumber(done) end

if redis.call('UNLINK', KEYS[1]) == 0 then return 0 end
remember(batches, ARGV[1], '1', MINUTE)
return 1
