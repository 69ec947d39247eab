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

--- @include "keys"
--- @include "state"
--- @include "clock"

if not stored then
  -- Meta is lost, but not the permits.
  if call('ZCARD', permits) > 0 then
    --- @include "recount"
    ttl = math.max(kicked, now_ms) + Span.TTL_SLACK
    for _, key in ipairs({ permits, queue, clients }) do call('PEXPIREAT', key, ttl) end
  end
  incarnation, last = now, now
end
override = ARGV[1] == '' and -1 or ARGV[1] + 0
--- @include "pack"
call('HSET', meta, 'state', packed)
if override < 0 then
  call('PEXPIREAT', meta, math.max(ttl, now_ms) + Span.META_OUTLIVES)
else
  call('PERSIST', meta)
end
return 1
