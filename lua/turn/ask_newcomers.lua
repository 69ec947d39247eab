--- Turns newcomers into asks, if this turn may be from before a loss of data.
---
--- If the client has seen no number of this incarnation, it may have sent the turn before the loss. The
--- epoch that would make the turn stale was lost, too. The newcomers of the turn may already hold or wait,
--- so the turn asks about them.
---
--- Reads   seen, incarnation; sections ASK, ADMIT_PLAIN, ADMIT_OTHER
--- Writes  ARGV, at, newcomers
--- Twin    src/store/memory/turn/ask_newcomers.rs

-- How many of the asks are newcomers: the last ones.
newcomers = 0
if seen > 0 and seen < incarnation and held + waiting > 0 and at <= #ARGV then
  local words, asked = { Section.ASK }, 0
  while at <= #ARGV do
    local count, first, when_full = ARGV[at + 1] + 0, at + 2, WhenFull.WAIT
    if ARGV[at] == Section.ASK then
      for i = first, first + 3 * count - 1 do words[i - first + 3] = ARGV[i] end
      asked, at = count, first + 3 * count
    else
      if ARGV[at] == Section.ADMIT_OTHER then when_full, first = ARGV[first], first + 3 end
      for i = first, first + count - 1 do
        local n = 3 * (asked + newcomers)
        words[n + 3], words[n + 4], words[n + 5] = ARGV[i], '0', when_full
        newcomers = newcomers + 1
      end
      at = first + count
    end
  end
  words[2] = asked + newcomers
  ARGV, at = words, 1
end
