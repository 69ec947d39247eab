--- Reads the state: the numbers of a semaphore, packed into one field of meta. A script needs most of them,
--- and many fields cost more than one.
---
---   schema       the version of all that the keys hold. It stays the first byte in every version.
---   epochs       1 once a client has written its epoch
---   grace        1 while a grace may be under way: meta `server` tells
---   incarnation  when meta was made, in microseconds; 0 if there is none
---   last         the last number given out, token or ticket; at first the incarnation
---   extra        units in use beyond one for each permit
---   ttl          when the first three keys expire
---   override     the limit override; -1 for none
---   kicked       no kicked permit has a later deadline
---   removed      `last` at the time when a kick last removed a permit at once
---
--- Data of a newer schema is refused before anything is written.
---
--- Writes  nothing
--- Twin    src/store/memory/meta.rs

local schema, epochs, grace, incarnation, last, extra, ttl, override, kicked, removed
local stored = call('HGET', meta, 'state')
if stored then
  schema = string.byte(stored)
  if schema > Schema.PRESENT then
    return redis.error_reply(
      'NEWERSCHEMA the data has schema '
        .. schema
        .. ', and this version of the crate knows '
        .. Schema.PRESENT
    )
  end
  schema, epochs, grace, incarnation, last, extra, ttl, override, kicked, removed =
    struct.unpack(State.FORMAT, stored)
else
  epochs, grace, incarnation, last, extra, ttl = 0, 0, 0, 0, 0, 0
  override, kicked, removed = -1, 0, 0
end
