--- Counts the permits again if meta is lost while permits are held.
---
--- Reads   all permits: the one step whose cost has no bound
--- Writes  meta `extra`, `kicked`; extra, latest (the latest deadline)
--- Twin    src/store/memory/meta.rs

extra = 0
for _, id in ipairs(call('ZRANGE', permits, '0', '-1')) do
  extra = extra + units_of(id) - 1
end
latest = math.ceil(call('ZRANGE', permits, '-1', '-1', 'WITHSCORES')[2] + 0)
-- Any of them may be kicked.
call('HSET', meta, 'extra', extra, 'kicked', latest)
