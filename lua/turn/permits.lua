--- Adds permits, for all steps that grant: they count at once, and flush() writes them together.
---
--- Reads   now_ms; all permits where `extra` would be negative, or where an added id was there already
--- Writes  permits, meta `state`; held, extra, kicked, earliest, needed_until
--- Twin    src/store/memory/turn/permits.rs

-- New permits as arguments of ZADD, and their units beyond one for each.
local adding, n_adding, adding_extra = {}, 0, 0
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
local function save()
  changed, before = false, last
  --- @include "pack"
  call('HSET', meta, 'state', packed)
end
-- Changes permits of more than one unit. `extra` has changed by `by` already. The state is written first: if
-- Redis is out of memory, this fails before anything has changed. If the permits cannot be changed, as in a
-- cluster that moves them, the state counts as before, and the second call raises the error.
local function change(by, command, ...)
  -- `extra` is not that of these permits, if meta alone is older, as after a slot move that was given up.
  if extra < 0 then
    --- @include "recount"
    extra = extra + by
  end
  save()
  local changed = redis.pcall(command, permits, ...)
  if type(changed) == 'table' then
    extra = extra - by
    save()
    changed = call(command, permits, ...)
    extra = extra + by
    save()
  end
  return changed
end
local function flush()
  if n_adding == 0 then return end
  local count, by = n_adding, adding_extra
  n_adding, adding_extra = 0, 0
  local added
  if by > 0 then
    added = change(by, 'ZADD', unpack(adding, 1, count))
    if added < count / 2 then
      -- One was there already, so its units are counted twice by now.
      local known = kicked
      --- @include "recount"
      kicked, changed = known, true
    end
  else
    added = call('ZADD', permits, unpack(adding, 1, count))
  end
  -- An id that was there already is one permit.
  held = held - count / 2 + added
end
-- Adds the ids `list[first]` to `list[to]`.
local function add(list, first, to, units, ms)
  local text = deadline_in(ms)
  if earliest and deadline < earliest then earliest = deadline end
  new_permits = new_permits or held == 0
  local more = units - 1
  for i = first, to do
    if n_adding == 2 * Bound.CHUNK then flush() end
    adding[n_adding + 1], adding[n_adding + 2] = text, list[i]
    n_adding = n_adding + 2
    if more > 0 then
      adding_extra, extra = adding_extra + more, extra + more
    end
  end
  held = held + to - first + 1
end
