--- Meta made again after it was lost, alone or with all other keys.
---
--- Reads   known, held; permits where meta was lost alone
--- Writes  meta `extra`, `kicked`; extra, incarnation, latest
--- Twin    src/store/memory/books.rs
local recount = incarnation == 0 and held > 0 -- meta was lost alone
local latest = 0
if recount then
  extra = 0
  for _, id in ipairs(call('ZRANGE', permits, '0', '-1')) do
    extra = extra + units_of(id) - 1
  end
  latest = math.ceil(call('ZRANGE', permits, '-1', '-1', 'WITHSCORES')[2] + 0)
elseif held == 0 then
  extra = 0
end

if recount then
  call('HSET', meta, 'extra', extra, 'kicked', latest)
elseif extra ~= (known[4] or 0) + 0 then
  call('HSET', meta, 'extra', '0')
end
if incarnation == 0 then
  incarnation, new_meta = now, true
  needed_until = max(now_ms, latest)
end
