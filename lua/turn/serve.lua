--- Grants to the head of the queue, while it fits.
---
--- Reads   queue, clients
--- Writes  permits, queue; held, extra, waiting, last, head, settled, others, notes
--- Twin    src/store/memory/books.rs
-- 5. serve
local head = nil -- the waiter that now stands first and does not fit
local others = nil -- waiters of the caller that it did not ask about: id, token
local notes, noted -- words for other clients, in the order of their first grant
if waiting > 0 then
  notes, noted = {}, {}
  local alive = { [me] = true }
  local looked = 0
  local width = max(1, min(CHUNK, limit - held - extra + 1))
  local function tell(id, client, token)
    if client ~= me then
      local words = notes[client]
      if not words then
        words = {}
        notes[client], noted[#noted + 1] = words, client
      end
      words[#words + 1], words[#words + 2] = id, format(WHOLE, token)
    elseif pending and pending[id] then
      settled[pending[id][1]] = token > 0 and { 1, token } or { 5 }
      pending[id] = nil
    else
      others = others or {}
      others[#others + 1], others[#others + 2] = id, token
    end
  end
  while waiting > 0 and not head do
    if looked == BOUND then
      more = 1
      break
    end
    local leaving = {}
    local heads = call('ZRANGE', queue, '0', min(width, BOUND - looked) - 1)
    for k, id in ipairs(heads) do
      looked = looked + 1
      local client, units = client_of(id), units_of(id)
      if alive[client] == nil then
        alive[client] = (call('ZSCORE', clients, client) or 0) + 0 > now_ms
      end
      if not alive[client] then
        leaving[#leaving + 1] = id
      elseif limit > 0 and units > limit and (override or client == me) then
        -- Without an override only the owner knows its limit: a lower one must not turn it away.
        leaving[#leaving + 1] = id
        tell(id, client, 0)
      elseif held + extra + units <= limit then
        leaving[#leaving + 1] = id
        add(heads, k, k, units, client == me and lease_of(id) or min(lease_of(id), CLAIM_MS))
        last = last + 1
        tell(id, client, last)
      elseif prune() then
        break -- and look again: there may be room now
      else
        head = id
        break
      end
    end
    flush()
    if #leaving > 0 then waiting = waiting - call('ZREM', queue, unpack(leaving)) end
    width = CHUNK
  end
end
