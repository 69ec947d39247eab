--- Begins the turn: reads what the client says of itself and what the keys hold, and checks whether the turn
--- is stale.
---
--- Reads   ARGV 1 to 3, section EPOCH; meta, the sizes of permits and queue
--- Writes  nothing
--- Twin    src/store/memory/turn/begin.rs

local me = ARGV[1]
local at = 4

-- Keys of another type fail here, before anything is written.
local known = call('HMGET', meta, 'inc', 'last', 'limit', 'extra', 'ttl', me)
local held = call('ZCARD', permits)
local waiting = call('ZCARD', queue)

local epoch, stored_epoch = 0, (known[6] or 0) + 0
if ARGV[at] == Section.EPOCH then
  epoch = ARGV[at + 1] + 0
  at = at + 2
end
if epoch < stored_epoch then return { Flag.NONE, stored_epoch } end

local incarnation, override = (known[1] or 0) + 0, known[3] and known[3] + 0
local seen = ARGV[3] + 0
-- The last number given out. The next one is above all that this client has seen.
local before = max((known[2] or 0) + 0, seen, now - 1)
local last = before
local extra, ttl = (known[4] or 0) + 0, (known[5] or 0) + 0
local limit = override or ARGV[2] + 0
-- The latest instant until which any key is needed.
local needed_until = 0
-- Keys whose expiry must be set, because this turn has created them. For `clients`, a write is enough.
local new_permits, new_queue, new_clients, new_meta = false, false, false, false
-- 1 if the turn leaves work for another turn.
local more = 0
