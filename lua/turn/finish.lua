--- Finishes the writes: the state and the expiry of the keys. Forgets clients that have gone, and sends
--- wake-ups.
---
--- Reads   needed_until, declared, kept_server, alive_until; clients by their last sign of life
--- Writes  meta state, server, <client>, l:<client>; clients; the expiry of all keys
--- Twin    src/store/memory/turn/finish.rs

if waiting > 0 and needed_until < now_ms + Span.ALIVE then needed_until = now_ms + Span.ALIVE end
local moves_ttl = needed_until > ttl
if moves_ttl then
  ttl, changed = needed_until + Span.TTL_SLACK, true
end
-- An earlier turn of the client may have been cut short, and have left keys without expiry.
if moves_ttl or epoch > stored_epoch then
  new_permits, new_queue, new_clients, new_meta = held > 0, waiting > 0, true, true
end
if changed or declared or kept_server or last > before then
  --- @include "pack"
  if declared or kept_server then
    local fields = { 'state', packed }
    if declared then fields[3], fields[4] = 'l:' .. me, declared end
    if kept_server then fields[#fields + 1], fields[#fields + 2] = 'server', kept_server end
    call('HSET', meta, unpack(fields))
  else
    call('HSET', meta, 'state', packed)
  end
end
if alive_until then
  new_clients = true
  call('ZADD', clients, 'GT', string.format(WHOLE, alive_until), me)
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
    call('HDEL', meta, unpack(fields))
    call('ZREM', clients, unpack(gone))
  end
end
-- A meta with an override never expires.
if new_meta and override < 0 then call('PEXPIREAT', meta, ttl + Span.META_OUTLIVES) end
if woken then
  --- @include "wake"
  for _, client in ipairs(woken) do wake(client, wake_ups[client]) end
end
