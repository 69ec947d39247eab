-- Sets or clears the limit override of the whole cluster. It stays until cleared: no TTL.
--
-- ARGV  1 the limit, or '' to clear it
-- Reply 1

local known = redis.call('HMGET', KEYS[4], 'inc', 'ttl')
if not known[1] then
  redis.call('HSET', KEYS[4], 'inc', now)
  local extra = 0
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    extra = extra + units_of(id) - 1
  end
  if extra > 0 then redis.call('HSET', KEYS[4], 'extra', extra) end
end
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[4], 'limit', ARGV[1])
  redis.call('PERSIST', KEYS[4])
else
  redis.call('HDEL', KEYS[4], 'limit')
  local ttl = max(tonumber(known[2] or '0'), floor(now / 1000))
  redis.call('PEXPIREAT', KEYS[4], ttl + META_OUTLIVES_MS)
end
return 1
