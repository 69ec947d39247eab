--- @include "prelude"
--- @include "clock"
-- Who holds and who waits, for operators. Changes nothing.
--
-- ARGV  1 how many holders and how many waiters to list at the most
-- Reply now ms, limit override (-1 = none), units in use, permits, waiters,
--       {id, score, ...} by deadline, {id, ...} in queue order, {client, label, ...}

local most = tonumber(ARGV[1])
local now_ms = floor(now / 1000)
local known = redis.call('HMGET', KEYS[4], 'limit', 'extra')
local held = redis.call('ZCARD', KEYS[1])
local waiting = redis.call('ZCARD', KEYS[2])
local holders = redis.call('ZRANGE', KEYS[1], 0, most - 1, 'WITHSCORES')
local waiters = redis.call('ZRANGE', KEYS[2], 0, most - 1)

local labels, asked = {}, {}
local function ask_label(id)
  local client = client_of(id)
  if asked[client] then return end
  asked[client] = true
  local label = redis.call('HGET', KEYS[4], 'l:' .. client)
  if label then labels[#labels + 1], labels[#labels + 2] = client, label end
end
for i = 1, #holders, 2 do ask_label(holders[i]) end
for _, id in ipairs(waiters) do ask_label(id) end

local extra = held > 0 and tonumber(known[2] or '0') or 0
return { now_ms, tonumber(known[1] or '-1'), held + extra, held, waiting, holders, waiters, labels }
