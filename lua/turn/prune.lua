--- Removes permits whose lease has ended: once, before the first step that depends on it.
---
--- Reads   now_ms; permits
--- Writes  permits, meta state; held, extra, earliest, more
--- Twin    src/store/memory/turn/prune.rs

local pruned = false
-- Returns true if any lease had ended.
local function prune()
  if pruned then return false end
  pruned = true
  if held == 0 then return false end
  flush()
  earliest = call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  if earliest > now_ms then return false end
  earliest = nil
  local expired = call('ZRANGEBYSCORE', permits, '-inf', now_ms, 'LIMIT', '0', Bound.LOOK)
  if #expired == Bound.LOOK then more = true end
  for from = 1, #expired, Bound.CHUNK do
    local to, heavy = min(from + Bound.CHUNK - 1, #expired), 0
    for i = from, to do heavy = heavy + units_of(expired[i]) - 1 end
    extra = extra - heavy
    if heavy > 0 then
      held = held - change(-heavy, 'ZREM', unpack(expired, from, to))
    else
      held = held - call('ZREM', permits, unpack(expired, from, to))
    end
  end
  return true
end
-- A turn without sections looks after everything.
if says_nothing then prune() end
