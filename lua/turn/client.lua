--- Keeps the epoch and the label of the client.
---
--- Reads   epoch, section LABEL
--- Writes  meta <client>, l:<client>; clients
--- Twin    src/store/memory/turn/client.rs

local function remember_client(until_ms)
  new_clients = true
  needed_until = max(needed_until, until_ms)
  call('ZADD', clients, 'GT', until_ms, me)
end

if epoch > stored_epoch then
  call('HSET', meta, me, epoch)
  remember_client(now_ms)
end
if ARGV[at] == Section.LABEL then
  local label = ARGV[at + 1]
  at = at + 2
  if call('HGET', meta, 'l:' .. me) ~= label then
    call('HSET', meta, 'l:' .. me, label)
    remember_client(now_ms)
  end
end
