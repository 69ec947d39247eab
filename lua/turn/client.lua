--- Keeps the epoch, the limit and the label of the client.
---
--- Reads   epoch, section DECLARE
--- Writes  meta state, <client>; epochs, alive_until, declared
--- Twin    src/store/memory/turn/client.rs

-- Until when the client counts as alive, if this turn has to write it.
local alive_until
-- What finish.lua writes to meta l:<client>.
local declared
if epoch > stored_epoch then
  -- Before anything else: a server without memory refuses this, and does not refuse what follows a release.
  epochs, alive_until = 1, now_ms
  --- @include "pack"
  call('HSET', meta, 'state', packed, me, epoch)
end
if ARGV[at] == Section.DECLARE then
  declared, alive_until = ARGV[2] .. ' ' .. ARGV[at + 1], now_ms
  at = at + 2
end
if alive_until and alive_until > needed_until then needed_until = alive_until end
