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

--- @include "keys"
--- @include "state"
--- @include "clock"
--- @include "prelude"
--- @include "wake"

local id = ARGV[1]
local score = tonumber(call('ZSCORE', permits, id) or '0')
if score <= now_ms then return Kick.NOT_HELD end

local outcome
if ARGV[2] == '1' then
  local units = units_of(id)
  -- If meta is missing, the next turn makes it again: it counts `extra`, and trusts no earlier token.
  if stored then
    removed, extra = last, extra - units + 1
    --- @include "pack"
    call('HSET', meta, 'state', packed)
  end
  local gone = redis.pcall('ZREM', permits, id)
  if type(gone) == 'table' then
    -- It is still there, so it counts, as in a cluster that moves the keys.
    extra = extra + units - 1
    if stored then
      --- @include "pack"
      call('HSET', meta, 'state', packed)
    end
    return gone
  end
  outcome = Kick.REMOVED
else
  -- Renewals look for marks only until `kicked`, so `kicked` is written first. If meta is missing, the next
  -- turn makes it again and sets `kicked` for all permits.
  local deadline = floor(score)
  if stored and kicked < deadline + 1 then
    kicked = deadline + 1
    --- @include "pack"
    call('HSET', meta, 'state', packed)
  end
  call('ZADD', permits, 'XX', format('%.1f', deadline + 0.5), id)
  outcome = Kick.MARKED
end
wake(client_of(id), { id, '0' })
return outcome
