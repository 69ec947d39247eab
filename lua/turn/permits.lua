--- Adds permits, for all steps that grant: they count at once, and flush() writes them together.
---
--- Reads   now_ms
--- Writes  permits, meta `state`; held, extra, earliest, needed_until
--- Twin    src/store/memory/turn/permits.rs

-- New permits as arguments of ZADD, and whether one of them has more than one unit.
local adding, n_adding, adding_heavy = {}, 0, false
-- The text of a deadline is kept: most permits of a turn share a lease.
local lease, deadline, deadline_text
local function deadline_in(ms)
  if ms ~= lease then
    lease, deadline = ms, now_ms + ms
    deadline_text = format(WHOLE, deadline)
    needed_until = max(needed_until, deadline)
  end
  return deadline_text
end
-- Writes the state: before a permit that it counts is added, and before one that it counted is removed. If
-- Redis is out of memory, this fails before anything has changed.
local function save()
  changed, before = false, last
  --- @include "pack"
  call('HSET', meta, 'state', packed)
end
local function flush()
  if n_adding == 0 then return end
  if adding_heavy then save() end
  -- An id that was there already is one permit.
  held = held - n_adding / 2 + call('ZADD', permits, unpack(adding, 1, n_adding))
  n_adding, adding_heavy = 0, false
end
-- Adds the ids `list[first]` to `list[to]`.
local function add(list, first, to, units, ms)
  local text = deadline_in(ms)
  if earliest and deadline < earliest then earliest = deadline end
  new_permits = new_permits or held == 0
  adding_heavy = adding_heavy or units > 1
  extra = extra + (to - first + 1) * (units - 1)
  for i = first, to do
    if n_adding == 2 * Bound.CHUNK then flush() end
    adding[n_adding + 1], adding[n_adding + 2] = text, list[i]
    n_adding = n_adding + 2
  end
  held = held + to - first + 1
end
