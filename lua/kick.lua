--- Kicks a permit: ends it on the command of an operator.
---
--- Twin    src/store/memory/kick.rs
---
--- # Arguments
---
--- 1 permit id, 2 '1': remove it at once, though its holder does not know yet
---
--- # Reply
---
--- Kick.NOT_HELD, Kick.MARKED (its units are free when its holder lets go, or at its deadline) or
--- Kick.REMOVED
---
--- # Implementation
---
--- The mark of a kick is half a millisecond that is added to the deadline. A marked permit can be released,
--- but not renewed, and its owner is told of the kick when it asks.

--- @include "prelude"
--- @include "clock"

local id = ARGV[1]
local score = tonumber(call('ZSCORE', permits, id) or '0')
if score <= now_ms then return Kick.NOT_HELD end

local outcome
if ARGV[2] == '1' then
  local units = units_of(id)
  local known = call('HMGET', meta, 'inc', 'last')
  -- If `inc` is missing, the next turn makes meta again: it counts `extra`, and trusts no earlier token.
  if known[1] then
    call('HSET', meta, 'removed', known[2] or known[1])
    if units > 1 then call('HINCRBY', meta, 'extra', 1 - units) end
  end
  call('ZREM', permits, id)
  outcome = Kick.REMOVED
else
  -- Renewals look for marks only until `kicked`, so `kicked` is written first. If `inc` is missing, the next
  -- turn makes meta again and sets `kicked` for all permits.
  local deadline = floor(score)
  local known = call('HMGET', meta, 'inc', 'kicked')
  if known[1] and (known[2] or 0) + 0 < deadline + 1 then
    call('HSET', meta, 'kicked', deadline + 1)
  end
  call('ZADD', permits, 'XX', format('%.1f', deadline + 0.5), id)
  outcome = Kick.MARKED
end
wake(client_of(id), { id, '0' })
return outcome
