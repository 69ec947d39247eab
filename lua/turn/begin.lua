--- What is known, and whether this turn still counts.
---
--- Reads   ARGV 1 to 3, section `e`; meta, the sizes of permits and queue
--- Writes  nothing; a turn with an old epoch ends here
--- Twin    src/store/memory/books.rs
local BOUND, CLAIM_MS, ALIVE_MS = 96, 3000, 3000
local FORGET_CLIENT_MS, FORGET_AT_ONCE = 3600000, 16

local call, ARGV = redis.call, ARGV
local permits, queue, clients, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me = ARGV[1]
local at = 4 -- where the next section begins

-- Read before anything is written, so keys of a wrong type change nothing.
local known = call('HMGET', meta, 'inc', 'last', 'limit', 'extra', 'ttl', me)
local held = call('ZCARD', permits)
local waiting = call('ZCARD', queue)

local epoch, stored_epoch = 0, (known[6] or 0) + 0
if ARGV[at] == 'e' then
  epoch = ARGV[at + 1] + 0
  at = at + 2
end
if epoch < stored_epoch then return { 0, stored_epoch } end

local now_ms = floor(now / 1000)
local incarnation, override = (known[1] or 0) + 0, known[3] and known[3] + 0
local seen = ARGV[3] + 0
local before = max((known[2] or 0) + 0, seen, now - 1)
local last = before
local extra, ttl = (known[4] or 0) + 0, (known[5] or 0) + 0
local limit = override or ARGV[2] + 0
local needed_until = 0 -- the latest instant that any key must live to
local new_permits, new_queue, new_clients, new_meta = false, false, false, false
local more = 0
