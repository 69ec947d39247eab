--- Answers asks about waiters. A waiter that was lost goes back to its place in the queue.
---
--- Reads   section ASK; scores in permits and queue
--- Writes  permits, queue; waiting, last, outcomes, pending, put_back
--- Twin    src/store/memory/turn/ask.rs

-- outcomes: for each ask the words of the reply, or 'new' for one that is admitted later.
-- pending: of asks whose outcome may still change, id -> {index of the ask, ticket}.
-- ARGV[asks + 1] begins the first ask.
asks, n_ask = at + 1, 0
if ARGV[at] == Section.ASK then
  prune()
  n_ask = ARGV[asks] + 0
  at = asks + 3 * n_ask + 1
  outcomes, pending = {}, {}
  for from = 1, n_ask, Bound.CHUNK do
    local to = min(from + Bound.CHUNK - 1, n_ask)
    local ids, pushed, back = {}, {}, {}
    for i = from, to do ids[#ids + 1] = ARGV[asks + 3 * i - 2] end
    local tickets = call('ZMSCORE', queue, unpack(ids))
    for k, score in ipairs(call('ZMSCORE', permits, unpack(ids))) do
      local i, id = from + k - 1, ids[k]
      local ticket = ARGV[asks + 3 * i - 1] + 0
      if score and is_kicked(score) then
        outcomes[i] = { Outcome.KICKED }
      elseif score then
        pushed[#pushed + 1], pushed[#pushed + 2] = deadline_in(lease_of(id)), id
        last = max(last, now - 1) + 1
        outcomes[i] = { Outcome.FOUND_GRANTED, last }
      elseif tickets[k] then
        -- A turn that was cut short may have queued it without writing the number.
        last = max(last, tickets[k])
        pending[id] = { i, tickets[k] + 0 }
      elseif ticket > 0 then
        back[#back + 1], back[#back + 2] = ticket, id
        pending[id] = { i, ticket }
      else
        outcomes[i] = 'new'
      end
    end
    if #pushed > 0 then call('ZADD', permits, 'XX', 'GT', unpack(pushed)) end
    if #back > 0 then
      -- A flag of the turn, not an outcome of the waiter: a later step may grant or refuse it.
      put_back, new_queue = true, new_queue or waiting == 0
      waiting = waiting + call('ZADD', queue, 'NX', unpack(back))
    end
  end
end
