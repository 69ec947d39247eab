--- Replies.
---
--- Reads   what the steps have left; the earliest deadline, for the owner of the head; the ranks in
---         queue of waiters that were asked about
--- Writes  nothing
--- Twin    src/store/memory/turn/reply.rs

local flags = Flag.ANSWERED
local reply = { flags, incarnation, held + extra, waiting, last }
if override >= 0 then
  flags, reply[#reply + 1] = flags + Flag.OVERRIDDEN, limit
end
if put_back then flags = flags + Flag.PUT_BACK end
if more then flags = flags + Flag.MORE end
if
  head
  and waiting > 0
  and not more
  and (held > 0 or grace_ends > 0)
  and string.sub(head, 1, 16) == me
then
  if grace_ends > 0 then
    earliest = grace_ends
  elseif not earliest then
    earliest = call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  end
  flags, reply[#reply + 1] = flags + Flag.EARLIEST, math.max(0, math.ceil(earliest) - now_ms)
end
if missing then
  flags, reply[#reply + 1] = flags + Flag.MISSING, #missing
  for i = 1, #missing do reply[#reply + 1] = missing[i] end
end
if exceptions then
  flags, reply[#reply + 1] = flags + Flag.EXCEPTIONS, #exceptions / 2
  for i = 1, #exceptions do reply[#reply + 1] = exceptions[i] end
end
if others then
  flags, reply[#reply + 1] = flags + Flag.OTHERS, #others / 2
  for i = 1, #others do reply[#reply + 1] = others[i] end
end
if outcomes then
  for id, ask in pairs(pending) do
    outcomes[ask[1]] = { Outcome.QUEUED, ask[2], call('ZRANK', queue, id) }
  end
  for i = 1, n_ask do
    -- The caller sees newcomers that were asked about as admits. Each is a run of one.
    if i > n_ask - newcomers then reply[#reply + 1] = 1 end
    for _, word in ipairs(outcomes[i]) do reply[#reply + 1] = word end
  end
end
if runs then
  for i = 1, #runs do reply[#reply + 1] = runs[i] end
else
  flags = flags + Flag.ALL_GRANTED
end
reply[1] = flags
return reply
