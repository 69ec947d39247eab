--- Asks: what has become of waiters, and lost ones put back at their places.
---
--- Reads   section `q`; scores in permits and queue
--- Writes  permits, queue; waiting, last, settled, pending, put_back
--- Twin    src/store/memory/books.rs
-- 4. put back waiters, and look up those whose fate the caller does not know
local settled, pending -- per ask: the words of the reply, or 'new' to be admitted, or pending
local put_back = false
local asks, n_ask = at + 1, 0 -- the asks follow that place
if ARGV[at] == 'q' then
  prune()
  n_ask = ARGV[asks] + 0
  at = asks + 3 * n_ask + 1
  settled, pending = {}, {} -- pending: id -> {ask index, ticket}
  for from = 1, n_ask, CHUNK do
    local to = min(from + CHUNK - 1, n_ask)
    local ids, pushed, back = {}, {}, {}
    for i = from, to do ids[#ids + 1] = ARGV[asks + 3 * i - 2] end
    local tickets = call('ZMSCORE', queue, unpack(ids))
    for k, score in ipairs(call('ZMSCORE', permits, unpack(ids))) do
      local i, id = from + k - 1, ids[k]
      local ticket = ARGV[asks + 3 * i - 1] + 0
      if score and is_kicked(score) then
        settled[i] = { 4 }
      elseif score then
        pushed[#pushed + 1], pushed[#pushed + 2] = deadline_in(lease_of(id)), id
        last = last + 1
        settled[i] = { 7, last }
      elseif tickets[k] then
        pending[id] = { i, tickets[k] + 0 }
      elseif ticket > 0 then
        back[#back + 1], back[#back + 2] = ticket, id
        pending[id] = { i, ticket }
      else
        settled[i] = 'new'
      end
    end
    if #pushed > 0 then call('ZADD', permits, 'XX', 'GT', unpack(pushed)) end
    if #back > 0 then
      -- Told of the turn, not of the waiter: it may be granted or found too large in this one.
      put_back, new_queue = true, new_queue or waiting == 0
      waiting = waiting + call('ZADD', queue, 'NX', unpack(back))
    end
  end
end
