--- Finishes the writes: sets the last number and the expiry of the keys, forgets clients that have gone,
--- sends wake-ups.
---
--- Reads   last, needed_until, ttl; clients by their last sign of life
--- Writes  meta `inc`, `last`, `ttl`; clients, meta <client>, l:<client>; the expiry of all keys
--- Twin    src/store/memory/turn/finish.rs

if waiting > 0 then needed_until = max(needed_until, now_ms + Span.ALIVE) end
if needed_until > ttl then
  ttl = needed_until + Span.TTL_SLACK
  call('HSET', meta, 'inc', incarnation, 'last', last, 'ttl', ttl)
  new_permits, new_queue, new_clients, new_meta = true, true, true, true
elseif last > before then
  call('HSET', meta, 'last', format(WHOLE, last))
end
if new_permits then call('PEXPIREAT', permits, ttl) end
if new_queue then call('PEXPIREAT', queue, ttl) end
-- Forgets clients that were last alive Span.FORGET_AFTER ago: Bound.FORGET in each turn that writes
-- to clients anyway.
if new_clients and call('PEXPIREAT', clients, ttl) == 1 then
  local before_ms = now_ms - Span.FORGET_AFTER
  local gone =
    call('ZRANGEBYSCORE', clients, '-inf', before_ms, 'LIMIT', '0', Bound.FORGET)
  if #gone > 0 then
    local fields = {}
    for i, client in ipairs(gone) do
      fields[2 * i - 1], fields[2 * i] = client, 'l:' .. client
    end
    call('ZREM', clients, unpack(gone))
    call('HDEL', meta, unpack(fields))
  end
end
-- A meta with an override never expires.
if new_meta and not override then call('PEXPIREAT', meta, ttl + Span.META_OUTLIVES) end
if woken then
  for _, client in ipairs(woken) do wake(client, wake_ups[client]) end
end
