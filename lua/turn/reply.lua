--- Replies.
---
--- Reads   what the steps have left; for the owner of the head, the earliest deadline; for asks that
---         still wait, their ranks in queue
--- Writes  nothing
--- Twin    src/store/memory/books.rs

local flags = 1
local reply = { flags, incarnation, held + extra, waiting, last }
if override then
  flags, reply[#reply + 1] = flags + 2, limit
end
if put_back then flags = flags + 4 end
if more == 1 then flags = flags + 8 end
if head and waiting > 0 and more == 0 and held > 0 and client_of(head) == me then
  earliest = earliest or call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  flags, reply[#reply + 1] = flags + 16, max(0, math.ceil(earliest) - now_ms)
end
if missing then
  flags, reply[#reply + 1] = flags + 32, #missing
  for i = 1, #missing do reply[#reply + 1] = missing[i] end
end
if exceptions then
  flags, reply[#reply + 1] = flags + 64, #exceptions / 2
  for i = 1, #exceptions do reply[#reply + 1] = exceptions[i] end
end
if others then
  flags, reply[#reply + 1] = flags + 128, #others / 2
  for i = 1, #others do reply[#reply + 1] = others[i] end
end
if outcomes then
  for id, ask in pairs(pending) do
    outcomes[ask[1]] = { 2, ask[2], call('ZRANK', queue, id) }
  end
  for i = 1, n_ask do
    -- Newcomers that were asked about are admits to the caller: each is a run of one.
    if i > n_ask - newcomers then reply[#reply + 1] = 1 end
    for _, word in ipairs(outcomes[i]) do reply[#reply + 1] = word end
  end
end
for i = 1, #runs do reply[#reply + 1] = runs[i] end
reply[1] = flags
return reply
