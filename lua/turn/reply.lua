--- The reply.
---
--- Reads   all that the steps have left; ranks in queue of those who were asked about
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
if not_plain then
  flags, reply[#reply + 1] = flags + 64, #not_plain / 2
  for i = 1, #not_plain do reply[#reply + 1] = not_plain[i] end
end
if others then
  flags, reply[#reply + 1] = flags + 128, #others / 2
  for i = 1, #others do reply[#reply + 1] = others[i] end
end
if settled then
  for id, ask in pairs(pending) do
    settled[ask[1]] = { 2, ask[2], call('ZRANK', queue, id) }
  end
  for i = 1, n_ask do
    if i > n_ask - newcomers then reply[#reply + 1] = 1 end -- a run of one
    for _, word in ipairs(settled[i]) do reply[#reply + 1] = word end
  end
end
for i = 1, #fared do reply[#reply + 1] = fared[i] end
reply[1] = flags
return reply
