--- Begins the turn: reads what the client says of itself and what the keys hold, and checks whether the turn
--- is stale.
---
--- Reads   ARGV 1 to 3, section EPOCH; the sizes of permits and queue, meta <client>
--- Writes  now, now_ms
--- Twin    src/store/memory/turn/begin.rs

local me, at = ARGV[1], 4
local said = #ARGV

-- Keys of another type fail here, before anything is written.
local held, waiting = call('ZCARD', permits), call('ZCARD', queue)

local epoch, stored_epoch = 0, 0
if epochs == 1 then stored_epoch = (call('HGET', meta, me) or 0) + 0 end
if ARGV[at] == Section.EPOCH then
  epoch, at = ARGV[at + 1] + 0, at + 2
end
if epoch < stored_epoch then return { Flag.NONE, stored_epoch } end

local seen, limit = ARGV[3] + 0, ARGV[2] + 0
if override >= 0 then limit = override end

-- A turn needs no clock if it only releases permits of one unit, and nobody waits for them.
if
  ARGV[at] ~= Section.RELEASE_LIGHT
  or at + 2 + ARGV[at + 1] < said
  or waiting > 0
  or incarnation == 0
  or epoch > stored_epoch
  or seen > last
then
  --- @include "clock"
end

-- Whether the state must be written.
local changed = false
-- The next number is above all that this client has seen. If meta did not know that number, data was lost.
local is_behind = seen > last
if is_behind then
  last, changed = seen, true
end
-- The last number that meta has, or will have by `changed`.
local before = last
-- The latest instant until which any key is needed.
local needed_until = 0
-- Keys whose expiry must be set, because this turn has created them. For `clients`, a write is enough.
local new_permits, new_queue, new_clients, new_meta
-- What only some turns have.
local missing, head, earliest, more, put_back
local exceptions, outcomes, pending, others, runs, wake_ups, woken
local asks, n_ask, newcomers
