--- Adds permits, for all steps that grant: they count at once, and flush() writes them together.
---
--- Reads   now_ms
--- Writes  permits, meta `extra`; held, extra, earliest, needed_until
--- Twin    src/store/memory/turn/permits.rs

-- A lower bound of all deadlines; nil if it is not known.
local earliest = nil

-- New permits as arguments of ZADD, and their units, less one for each.
local adding, n_adding, adding_heavy = {}, 0, 0
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
-- HINCRBY comes first: if Redis is out of memory, it fails before anything has changed.
local function flush()
  if n_adding == 0 then return end
  if adding_heavy ~= 0 then call('HINCRBY', meta, 'extra', adding_heavy) end
  call('ZADD', permits, unpack(adding, 1, n_adding))
  n_adding, adding_heavy = 0, 0
end
-- Adds the ids `list[first]` to `list[to]`.
local function add(list, first, to, units, ms)
  local text = deadline_in(ms)
  if earliest and deadline < earliest then earliest = deadline end
  new_permits = new_permits or held == 0
  for i = first, to do
    if n_adding == 2 * CHUNK then flush() end
    adding[n_adding + 1], adding[n_adding + 2] = text, list[i]
    n_adding = n_adding + 2
    adding_heavy = adding_heavy + units - 1
  end
  held = held + to - first + 1
  extra = extra + (to - first + 1) * (units - 1)
end
