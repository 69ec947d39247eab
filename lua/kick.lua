--- @include "prelude"
--- @include "clock"
-- Ends a permit on an operator's word.
--
-- ARGV  1 permit id  2 '1' = free the unit now, though its holder does not know yet
-- Reply 0 not held, 1 marked (the unit is free at the release or the deadline), 2 removed
--
-- A mark is half a millisecond on the deadline: it can be released, not renewed or asked for again.

local id = ARGV[1]
local now_ms = floor(now / 1000)
local score = tonumber(redis.call('ZSCORE', KEYS[1], id) or '0')
if score <= now_ms then return 0 end

local outcome
if ARGV[2] == '1' then
  local units = units_of(id)
  local known = redis.call('HMGET', KEYS[4], 'inc', 'last')
  if known[1] then -- else the next turn counts again, and trusts no release
    redis.call('HSET', KEYS[4], 'removed', known[2] or known[1])
    if units > 1 then redis.call('HINCRBY', KEYS[4], 'extra', 1 - units) end
  end
  redis.call('ZREM', KEYS[1], id)
  outcome = 2
else
  -- Told first: renewals look for marks only while there can be one. Without `inc` the next turn
  -- tells it again.
  local deadline = floor(score)
  local known = redis.call('HMGET', KEYS[4], 'inc', 'kicked')
  if known[1] and (known[2] or 0) + 0 < deadline + 1 then redis.call('HSET', KEYS[4], 'kicked', deadline + 1) end
  redis.call('ZADD', KEYS[1], 'XX', format('%.1f', deadline + 0.5), id)
  outcome = 1
end
wake(client_of(id), { id, '0' })
return outcome
