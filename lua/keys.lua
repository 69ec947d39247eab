--- What every script begins with: the keys.
---
--- KEYS[1]  permits  ZSET  permit id -> end of its lease, + 0.5 once it is kicked
--- KEYS[2]  queue    ZSET  waiter id -> its ticket
--- KEYS[3]  clients  ZSET  client id -> until when the client counts as alive
--- KEYS[4]  meta     HASH  with these fields:
---   state       the numbers of the semaphore, packed: state.lua
---   server      the server that the name was last used on, and its grace, packed: turn/meet.lua
---   <client>    the epoch of a client
---   l:<client>  the highest limit of its handles, a space, its label
---
--- Instants are the server's, in milliseconds unless said otherwise. A name like `Flag.MORE` is a constant
--- of the crate. Its literal replaces the name when the parts are joined.

local call, ARGV = redis.call, ARGV
local permits, queue, clients, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- Lua formats '%d' as a C long, which has 32 bits on some servers. '%.0f' takes twice as long.
local WHOLE = struct.size('l') == 8 and '%d' or '%.0f'
-- The server's time in microseconds and in milliseconds, once clock.lua has read it.
local now, now_ms
