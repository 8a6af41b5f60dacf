-- Count a hit in a moving window, where the window has room, by the server's clock, once for each write id.
-- Follows on two scripts of the `limits` library: `acquire` and `moving_window`, as functions of their KEYS and ARGV.
-- Python half: Hit in ops/limit.py
-- KEYS  see values.lua; the value is the times of the hits, newest first
-- ARGV  2 the most hits in a window, 3 seconds of a window, 4 how many hits to count, 1 or 0
-- returns {1 where it was counted, else 0; hits in the window; milliseconds until its oldest leaves it}

if ARGV[4] == '1' then
  local done = find_done()
  if done then
    local hits, ttl_ms = string.match(done, '^(%d+),(%d+)$')
    return {1, tonumber(hits or 0), tonumber(ttl_ms or 0)}
  end
end

local time = redis.call('TIME')
local now, per = time[1] + time[2] / 1000000, tonumber(ARGV[3])
local hits = {KEYS[1]}
local counted = ARGV[4] == '1' and acquire(hits, {now, ARGV[2], ARGV[3], 1})
local window = moving_window(hits, {now - per, ARGV[2]})
if not window then return {counted and 1 or 0, 0, 0} end
local ttl_ms = math.ceil((window[1] + per - now) * 1000)
if counted then record_done(string.format('%d,%d', window[2], ttl_ms), MINUTE) end
return {counted and 1 or 0, window[2], ttl_ms}
