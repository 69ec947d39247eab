--- Makes meta again if it is lost, alone or with all keys.
---
--- Reads   incarnation, held; all permits where meta is lost alone
--- Writes  incarnation, last, extra, kicked
--- Twin    src/store/memory/meta.rs

if incarnation == 0 then
  if held > 0 then
    --- @include "recount"
  end
  incarnation, new_meta = now, true
  if now > last then last = now end
  changed, before = true, last
  needed_until = kicked > now_ms and kicked or now_ms
elseif held == 0 and extra ~= 0 then
  extra, changed = 0, true
end
