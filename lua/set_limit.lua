--- @include "prelude"
--- @include "clock"
-- Sets or clears the limit override of the whole cluster. It stays until cleared: no TTL.
--
-- ARGV  1 the limit, or '' to clear it
-- Reply 1

local known = redis.call('HMGET', KEYS[4], 'inc', 'ttl')
local ttl = (known[2] or 0) + 0
if not known[1] then
  redis.call('HSET', KEYS[4], 'inc', now)
  local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
  if #ids > 0 then -- meta was lost alone: find out again what it told of the permits
    local extra = 0
    for _, id in ipairs(ids) do extra = extra + units_of(id) - 1 end
    local latest = math.ceil(redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] + 0)
    ttl = max(latest, floor(now / 1000)) + TTL_SLACK_MS
    redis.call('HSET', KEYS[4], 'extra', extra, 'kicked', latest, 'ttl', ttl)
    for i = 1, 3 do redis.call('PEXPIREAT', KEYS[i], ttl) end
  end
end
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[4], 'limit', ARGV[1])
  redis.call('PERSIST', KEYS[4])
else
  redis.call('HDEL', KEYS[4], 'limit')
  redis.call('PEXPIREAT', KEYS[4], max(ttl, floor(now / 1000)) + META_OUTLIVES_MS)
end
return 1
