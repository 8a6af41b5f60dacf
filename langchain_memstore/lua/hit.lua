-- Count a hit in a moving window, where the window has room, by the server's clock.
-- Follows on two scripts of the `limits` library: `acquire` and `moving_window`, as functions of their KEYS and ARGV.
-- Python half: Hit in ops/limit.py
-- KEYS  1 the times of the hits, newest first
-- ARGV  1 the most hits in a window, 2 seconds of a window, 3 how many hits to count, 1 or 0
-- returns {1 where it was counted, else 0; hits in the window; milliseconds until its oldest leaves it}

local time = redis.call('TIME')
local now, per = time[1] + time[2] / 1000000, tonumber(ARGV[2])
local counted = ARGV[3] == '1' and acquire(KEYS, {now, ARGV[1], ARGV[2], 1})
local window = moving_window(KEYS, {now - per, ARGV[1]})
if not window then return {counted and 1 or 0, 0, 0} end
return {counted and 1 or 0, window[2], math.ceil((window[1] + per - now) * 1000)}
