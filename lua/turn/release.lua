--- Removes what the client releases of permits of one unit.
---
--- Reads   section RELEASE_LIGHT; removed
--- Writes  permits; held, missing, releases
--- Twin    src/store/memory/turn/remove.rs

-- Whether the turn has no section for a later step.
local says_nothing = at > said
-- How many releases came before this section. `missing` has the indices of those that found nothing.
local releases = 0
if ARGV[at] == Section.RELEASE_LIGHT then
  local first = at + 3
  releases = ARGV[at + 1] + 0
  at = first + releases
  local token = ARGV[first - 1] + 0
  -- A permit with a token up to `removed` may have been kicked, or lost with data while others were put
  -- back. If all tokens are higher, and the client knows that no lease has ended, either all of the permits
  -- are there or none. So one ZREM of many permits is enough to know which were missing.
  if releases > 1 and token > removed and token > incarnation then
    local found = 0
    for from = first, at - 1, Bound.CHUNK do
      local to = from + Bound.CHUNK - 1
      if to >= at then to = at - 1 end
      found = found + call('ZREM', permits, unpack(ARGV, from, to))
    end
    held = held - found
    if found == 0 then
      missing = {}
      for i = 1, releases do
        missing[i] = i
      end
    end
  else
    for i = first, at - 1 do
      if call('ZREM', permits, ARGV[i]) == 1 then
        held = held - 1
      else
        missing = missing or {}
        missing[#missing + 1] = i - first + 1
      end
    end
  end
end
