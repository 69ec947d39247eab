-- Ends a permit on an operator's word.
--
-- ARGV  1 permit id  2 '1' = free the unit now, though its holder does not know yet  3 channel
-- Reply 0 not held, 1 marked (the unit is free at the release or the deadline), 2 removed
--
-- A mark is half a millisecond on the deadline: it can be released, not renewed or asked for again.

local id = ARGV[1]
local now_ms = floor(now_micros() / 1000)
local score = tonumber(redis.call('ZSCORE', KEYS[1], id) or '0')
if score <= now_ms then return 0 end

local outcome
if ARGV[2] == '1' then
  local units = units_of(id)
  -- Without `inc` the next turn counts anew.
  if units > 1 and redis.call('HGET', KEYS[4], 'inc') then redis.call('HINCRBY', KEYS[4], 'extra', 1 - units) end
  redis.call('ZREM', KEYS[1], id)
  outcome = 2
else
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.1f', floor(score) + 0.5), id)
  outcome = 1
end
wake(ARGV[3], client_of(id), { id, '0' })
return outcome
