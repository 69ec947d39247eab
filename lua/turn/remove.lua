--- Releases and cancels.
---
--- Reads   sections `r`, `R`, `c`; meta `removed`
--- Writes  permits, queue, meta `extra`; held, extra, waiting, missing
--- Twin    src/store/memory/books.rs
-- 2. take back
local missing, releases = nil, 0 -- the indices of releases that found nothing
while ARGV[at] == 'r' do
  local count, first = ARGV[at + 1] + 0, at + 3
  local to = first + count - 1
  -- Permits up to this number may have gone otherwise than by their owner or their lease.
  local removed = count > 1 and max(incarnation, (call('HGET', meta, 'removed') or 0) + 0)
  if removed and ARGV[at + 2] + 0 > removed then -- all are there, or all were lost with data
    local found = 0
    for from = first, to, CHUNK do
      found = found + call('ZREM', permits, unpack(ARGV, from, min(from + CHUNK - 1, to)))
    end
    held = held - found
    if found == 0 then
      missing = missing or {}
      for i = 1, count do missing[#missing + 1] = releases + i end
    end
  else -- one by one: to look first would cost more
    for i = first, to do
      if call('ZREM', permits, ARGV[i]) == 1 then
        held = held - 1
      else
        missing = missing or {}
        missing[#missing + 1] = releases + i - first + 1
      end
    end
  end
  releases, at = releases + count, to + 1
end
if ARGV[at] == 'R' or ARGV[at] == 'c' then
  -- True where the id was there.
  local function remove_heavy(id)
    if not call('ZSCORE', permits, id) then return false end
    local units = units_of(id)
    extra = extra - units + 1
    call('HINCRBY', meta, 'extra', 1 - units)
    call('ZREM', permits, id)
    held = held - 1
    return true
  end
  while ARGV[at] == 'R' do
    local count = ARGV[at + 1] + 0
    for i = 1, count do
      if not remove_heavy(ARGV[at + 1 + i]) then
        missing = missing or {}
        missing[#missing + 1] = releases + i
      end
    end
    releases, at = releases + count, at + 2 + count
  end
  while ARGV[at] == 'c' do
    local first = at + 2
    at = first + ARGV[at + 1]
    for from = first, at - 1, CHUNK do
      local to = min(from + CHUNK - 1, at - 1)
      waiting = waiting - call('ZREM', queue, unpack(ARGV, from, to))
      local light = {}
      for i = from, to do
        if find(ARGV[i], '*', 19, true) then remove_heavy(ARGV[i]) else light[#light + 1] = ARGV[i] end
      end
      if #light > 0 then held = held - call('ZREM', permits, unpack(light)) end
    end
  end
end
