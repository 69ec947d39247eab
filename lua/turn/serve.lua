--- Grants to the head of the queue while it fits. During a grace nobody is served.
---
--- Reads   queue, clients
--- Writes  permits, queue; held, extra, waiting, last, head, outcomes, others, wake_ups
--- Twin    src/store/memory/turn/serve.rs

-- head: the first waiter. It is set once the waiter is known not to fit.
-- others: waiters of the caller that it did not ask about, as pairs of id and token.
-- wake_ups: for each other client the words of its wake-ups; woken: those clients, in the order
-- of their first grant.
if waiting > 0 and grace_ends > 0 then
  head = call('ZRANGE', queue, '0', '0')[1]
elseif waiting > 0 then
  wake_ups, woken = {}, {}
  local alive = { [me] = true }
  local looked = 0
  local width = max(1, min(Bound.CHUNK, limit - held - extra + 1))
  -- Tells the owner of a waiter that it has left the queue. Token 0 means that it left without a grant.
  local function tell(id, client, token)
    if client ~= me then
      local words = wake_ups[client]
      if not words then
        words = {}
        wake_ups[client], woken[#woken + 1] = words, client
      end
      words[#words + 1], words[#words + 2] = id, format(WHOLE, token)
    elseif pending and pending[id] then
      outcomes[pending[id][1]] = token > 0 and { Outcome.GRANTED, token } or { Outcome.TOO_LARGE }
      pending[id] = nil
    else
      others = others or {}
      others[#others + 1], others[#others + 2] = id, token
    end
  end
  local leaving
  -- A waiter leaves the queue before it becomes a permit. So an id is never both, wherever a turn is cut short.
  local function leave()
    if #leaving > 0 then waiting = waiting - call('ZREM', queue, unpack(leaving)) end
    leaving = {}
    flush()
  end
  while waiting > 0 and not head do
    if looked == Bound.LOOK then
      more = true
      break
    end
    leaving = {}
    local heads = call('ZRANGE', queue, '0', min(width, Bound.LOOK - looked) - 1)
    for k, id in ipairs(heads) do
      looked = looked + 1
      local client, units = client_of(id), units_of(id)
      if alive[client] == nil then
        alive[client] = (call('ZSCORE', clients, client) or 0) + 0 > now_ms
      end
      if not alive[client] then
        leaving[#leaving + 1] = id
      elseif limit > 0 and units > limit and (override >= 0 or client == me) then
        -- Without an override, only the owner of a waiter knows its limit, which may be higher.
        leaving[#leaving + 1] = id
        tell(id, client, 0)
      elseif held + extra + units <= limit then
        leaving[#leaving + 1] = id
        add(heads, k, k, units, client == me and lease_of(id) or min(lease_of(id), Span.CLAIM))
        last = max(last, now - 1) + 1
        tell(id, client, last)
      else
        leave()
        -- If a lease had ended, there may be room now, so this waiter is checked again.
        if not prune() then head = id end
        break
      end
    end
    leave()
    width = Bound.CHUNK
  end
end
