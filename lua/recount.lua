--- Counts the permits again if meta is lost, or older than the permits or than what a client has seen, while
--- permits are held.
---
--- Reads   all permits: the one step whose cost has no bound
--- Writes  extra, kicked: the latest deadline
--- Twin    src/store/memory/meta.rs

extra = 0
for _, id in ipairs(call('ZRANGE', permits, '0', '-1')) do
  local units = string.match(id, '%*(%d+)', 19)
  if units then extra = extra + units - 1 end
end
-- Any of them may be kicked.
kicked = math.ceil(call('ZRANGE', permits, '-1', '-1', 'WITHSCORES')[2] + 0)
