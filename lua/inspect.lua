--- Lists holders and waiters, for operators. Writes nothing.
---
--- Twin    src/store/memory/inspect.rs
---
--- # Arguments
---
--- 1 how many holders to list at most, and how many waiters
---
--- # Reply
---
--- now, limit override (-1: none), units in use, permits, waiters, {id, score, ...} by deadline,
--- {id, ...} in the order of the queue, {client, label, ...}

--- @include "prelude"
--- @include "clock"

local most = tonumber(ARGV[1])
local known = call('HMGET', meta, 'limit', 'extra')
local held = call('ZCARD', permits)
local waiting = call('ZCARD', queue)
local holders = call('ZRANGE', permits, 0, most - 1, 'WITHSCORES')
local waiters = call('ZRANGE', queue, 0, most - 1)

local labels, asked = {}, {}
local function ask_label(id)
  local client = client_of(id)
  if asked[client] then return end
  asked[client] = true
  local label = call('HGET', meta, 'l:' .. client)
  if label then labels[#labels + 1], labels[#labels + 2] = client, label end
end
for i = 1, #holders, 2 do ask_label(holders[i]) end
for _, id in ipairs(waiters) do ask_label(id) end

local extra = held > 0 and tonumber(known[2] or '0') or 0
return { now_ms, tonumber(known[1] or '-1'), held + extra, held, waiting, holders, waiters, labels }
