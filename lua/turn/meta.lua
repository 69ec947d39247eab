--- Makes meta again if it is lost, alone or with all keys.
---
--- Reads   known, held; all permits where meta is lost alone
--- Writes  meta `extra`, `kicked`; extra, latest, incarnation
--- Twin    src/store/memory/meta.rs

-- The latest deadline, if only meta is lost.
local latest = 0
if incarnation == 0 and held > 0 then
  --- @include "recount"
elseif held == 0 and extra ~= 0 then
  extra = 0
  call('HSET', meta, 'extra', '0')
end
if incarnation == 0 then
  incarnation, new_meta = now, true
  needed_until = max(now_ms, latest)
end
