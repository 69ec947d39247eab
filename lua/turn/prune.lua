--- Permits whose lease is over go: at most BOUND, and at most once in a turn.
---
--- Reads   now_ms; permits by deadline
--- Writes  permits, meta `extra`; held, extra, earliest, more
--- Twin    src/store/memory/books.rs
-- 1. prune: once, before the first thing that depends on it
local pruned = false
local function prune()
  if pruned then return false end
  pruned = true
  if held == 0 then return false end
  flush()
  earliest = call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  if earliest > now_ms then return false end
  earliest = nil
  local expired = call('ZRANGEBYSCORE', permits, '-inf', now_ms, 'LIMIT', '0', BOUND)
  if #expired == BOUND then more = 1 end
  for from = 1, #expired, CHUNK do
    local to, heavy = min(from + CHUNK - 1, #expired), 0
    for i = from, to do heavy = heavy + units_of(expired[i]) - 1 end
    -- Before the ids do: out of memory stops the HINCRBY, and then nothing has moved.
    if heavy ~= 0 then call('HINCRBY', meta, 'extra', -heavy) end
    extra = extra - heavy
    held = held - call('ZREM', permits, unpack(expired, from, to))
  end
  return true
end
if at > #ARGV then prune() end -- nothing is said: all is looked after
