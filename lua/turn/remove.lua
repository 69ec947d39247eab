--- Removes what the client releases or cancels.
---
--- Reads   sections RELEASE_LIGHT, RELEASE_HEAVY, CANCEL; meta `removed`
--- Writes  permits, queue, meta `extra`; held, extra, waiting, missing
--- Twin    src/store/memory/turn/remove.rs

-- Indices of the releases that found nothing, and how many releases came before this section.
local missing, releases = nil, 0
while ARGV[at] == Section.RELEASE_LIGHT do
  local count, first = ARGV[at + 1] + 0, at + 3
  local to = first + count - 1
  -- A permit with a token up to `removed` may have been kicked, or lost with data while others were put
  -- back. If all tokens are higher, and the client knows that no lease has ended, either all of the permits
  -- are there or none. So one ZREM of many permits is enough to know which were missing.
  local removed = count > 1 and max(incarnation, (call('HGET', meta, 'removed') or 0) + 0)
  if removed and ARGV[at + 2] + 0 > removed then
    local found = 0
    for from = first, to, CHUNK do
      found = found + call('ZREM', permits, unpack(ARGV, from, min(from + CHUNK - 1, to)))
    end
    held = held - found
    if found == 0 then
      missing = missing or {}
      for i = 1, count do missing[#missing + 1] = releases + i end
    end
  else
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
if ARGV[at] == Section.RELEASE_HEAVY or ARGV[at] == Section.CANCEL then
  -- Returns true if the id was there.
  local function remove_heavy(id)
    if not call('ZSCORE', permits, id) then return false end
    local units = units_of(id)
    extra = extra - units + 1
    call('HINCRBY', meta, 'extra', 1 - units)
    call('ZREM', permits, id)
    held = held - 1
    return true
  end
  while ARGV[at] == Section.RELEASE_HEAVY do
    local count = ARGV[at + 1] + 0
    for i = 1, count do
      if not remove_heavy(ARGV[at + 1 + i]) then
        missing = missing or {}
        missing[#missing + 1] = releases + i
      end
    end
    releases, at = releases + count, at + 2 + count
  end
  while ARGV[at] == Section.CANCEL do
    local first = at + 2
    at = first + ARGV[at + 1]
    for from = first, at - 1, CHUNK do
      local to = min(from + CHUNK - 1, at - 1)
      waiting = waiting - call('ZREM', queue, unpack(ARGV, from, to))
      local light = {}
      for i = from, to do
        if find(ARGV[i], '*', 19, true) then
          remove_heavy(ARGV[i])
        else
          light[#light + 1] = ARGV[i]
        end
      end
      if #light > 0 then held = held - call('ZREM', permits, unpack(light)) end
    end
  end
end
