--- Writes something that changes nothing, so that a WAIT which follows covers all that the server ran before.
---
--- # Reply
---
--- 1, or 0 where there is nothing to write: the data of the name is lost.

--- @include "keys"

local state = call('HGET', meta, 'state')
if not state then return 0 end
call('HSET', meta, 'state', state)
return 1
