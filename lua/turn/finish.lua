--- The last number, the end of the keys, clients that have gone, wake-ups.
---
--- Reads   needed_until, ttl, last
--- Writes  meta `inc`, `last`, `ttl`; clients; the expiry of all keys; publishes
--- Twin    src/store/memory/books.rs
-- 7. close the books and reply
if waiting > 0 then needed_until = max(needed_until, now_ms + ALIVE_MS) end
if needed_until > ttl then
  ttl = needed_until + TTL_SLACK_MS
  call('HSET', meta, 'inc', incarnation, 'last', last, 'ttl', ttl)
  new_permits, new_queue, new_clients, new_meta = true, true, true, true
elseif last > before then
  call('HSET', meta, 'last', format(WHOLE, last))
end
if new_permits then call('PEXPIREAT', permits, ttl) end
if new_queue then call('PEXPIREAT', queue, ttl) end
-- Clients not heard of for an hour are forgotten by turns that write about clients, or move their end.
if new_clients and call('PEXPIREAT', clients, ttl) == 1 then
  local gone = call('ZRANGEBYSCORE', clients, '-inf', now_ms - FORGET_CLIENT_MS, 'LIMIT', '0', FORGET_AT_ONCE)
  if #gone > 0 then
    local fields = {}
    for i, client in ipairs(gone) do
      fields[2 * i - 1], fields[2 * i] = client, 'l:' .. client
    end
    call('ZREM', clients, unpack(gone))
    call('HDEL', meta, unpack(fields))
  end
end
if new_meta and not override then call('PEXPIREAT', meta, ttl + META_OUTLIVES_MS) end
if noted then
  for _, client in ipairs(noted) do wake(client, notes[client]) end
end
