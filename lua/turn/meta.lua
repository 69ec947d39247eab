--- Makes meta again if it is lost, alone or with all keys. Counts again what cannot be.
---
--- Reads   incarnation, held; all permits where meta is lost alone, or where `extra` is negative
--- Writes  incarnation, last, extra, kicked
--- Twin    src/store/memory/meta.rs

if incarnation == 0 then
  if held > 0 then
    --- @include "recount"
  end
  incarnation, new_meta = now > last and now or last + 1, true
  last, changed, before = incarnation, true, incarnation
  if kicked > needed_until then needed_until = kicked end
  if now_ms > needed_until then needed_until = now_ms end
elseif held == 0 and extra ~= 0 then
  extra, changed = 0, true
elseif extra < 0 then
  changed = true
  --- @include "recount"
end
