--- Admits newcomers of one unit and the default lease where nobody waits and all fit. No other section of the
--- turn is left.
---
--- Reads   section ADMIT_PLAIN, last
--- Writes  permits; held, last, needed_until
--- Twin    src/store/memory/turn/admit.rs

local count, first = ARGV[at + 1] + 0, at + 2
local ends = now_ms + Span.DEFAULT_LEASE
if ends > needed_until then needed_until = ends end
local deadline = string.format(WHOLE, ends)
new_permits = held == 0
if last < now - 1 then last = now - 1 end
last = last + count
if count == 1 then
  held = held + call('ZADD', permits, deadline, ARGV[first])
else
  for from = first, said, Bound.CHUNK do
    local adding, n = {}, 0
    for i = from, from + Bound.CHUNK - 1 < said and from + Bound.CHUNK - 1 or said do
      adding[n + 1], adding[n + 2] = deadline, ARGV[i]
      n = n + 2
    end
    held = held + call('ZADD', permits, unpack(adding, 1, n))
  end
end
