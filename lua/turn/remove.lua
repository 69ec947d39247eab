--- Removes what the client releases of permits of more than one unit, and what it cancels.
---
--- Reads   sections RELEASE_HEAVY, CANCEL
--- Writes  permits, queue, meta state; held, extra, waiting, missing
--- Twin    src/store/memory/turn/remove.rs

if ARGV[at] == Section.RELEASE_HEAVY or ARGV[at] == Section.CANCEL then
  -- Returns true if the id was there.
  local function remove_heavy(id)
    if not call('ZSCORE', permits, id) then return false end
    local by = 1 - units_of(id)
    extra = extra + by
    held = held - change(by, 'ZREM', id)
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
    for from = first, at - 1, Bound.CHUNK do
      local to = min(from + Bound.CHUNK - 1, at - 1)
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
