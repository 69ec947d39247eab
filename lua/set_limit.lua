--- Sets or clears the limit override of the whole cluster. An override stays until it is cleared.
---
--- Twin    src/store/memory/set_limit.rs
---
--- # Arguments
---
--- 1 the limit, or '' to clear it
---
--- # Reply
---
--- 1

--- @include "prelude"
--- @include "clock"

local known = call('HMGET', meta, 'inc', 'ttl')
local ttl = (known[2] or 0) + 0
if not known[1] then
  -- Meta is lost, but not the permits.
  if call('ZCARD', permits) > 0 then
    local extra, latest
    --- @include "recount"
    ttl = max(latest, now_ms) + Span.TTL_SLACK
    call('HSET', meta, 'ttl', ttl)
    for _, key in ipairs({ permits, queue, clients }) do call('PEXPIREAT', key, ttl) end
  end
  call('HSET', meta, 'inc', now)
end
if ARGV[1] ~= '' then
  call('HSET', meta, 'limit', ARGV[1])
  call('PERSIST', meta)
else
  call('HDEL', meta, 'limit')
  call('PEXPIREAT', meta, max(ttl, now_ms) + Span.META_OUTLIVES)
end
return 1
