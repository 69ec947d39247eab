--- A turn that may have been sent before data was lost: its newcomers become asks.
---
--- Reads   seen, incarnation; sections `q`, `w`, `a`
--- Writes  ARGV, at, newcomers
--- Twin    src/store/memory/books.rs
-- Who was not answered under this incarnation may have sent this turn before data was lost, with what
-- made it void, and what it admits may be held or wait by now: that is asked about.
local newcomers = 0 -- how many stand behind the asks
if seen > 0 and seen < incarnation and held + waiting > 0 and at <= #ARGV then
  local words, asked = { 'q' }, 0
  while at <= #ARGV do
    local count, first, rule = ARGV[at + 1] + 0, at + 2, 'w'
    if ARGV[at] == 'q' then
      for i = first, first + 3 * count - 1 do words[i - first + 3] = ARGV[i] end
      asked, at = count, first + 3 * count
    else
      if ARGV[at] == 'a' then rule, first = ARGV[first], first + 3 end
      for i = first, first + count - 1 do
        local n = 3 * (asked + newcomers)
        words[n + 3], words[n + 4], words[n + 5] = ARGV[i], '0', rule
        newcomers = newcomers + 1
      end
      at = first + count
    end
  end
  words[2] = asked + newcomers
  ARGV, at = words, 1
end
