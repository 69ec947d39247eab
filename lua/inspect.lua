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
--- now in microseconds, limit override (-1: none), declared limit (-1: none), units in use, permits, waiters,
--- {id, score, ...} by deadline, {id, ticket, ...} in the order of the queue, {client, label, ...}, ms until
--- the grace ends (0: there is none). The declared limit is the highest that a known client has declared.

--- @include "keys"
--- @include "state"
--- @include "clock"

local most = tonumber(ARGV[1])
local held = call('ZCARD', permits)
local waiting = call('ZCARD', queue)
local holders = call('ZRANGE', permits, 0, most - 1, 'WITHSCORES')
local waiters = call('ZRANGE', queue, 0, most - 1, 'WITHSCORES')

-- The clients that were alive last, and those that are listed.
local asked, is_listed = call('ZRANGE', clients, 0, most - 1, 'REV'), {}
for _, ids in ipairs({ holders, waiters }) do
  for i = 1, #ids, 2 do
    local client = string.sub(ids[i], 1, 16)
    if not is_listed[client] then asked[#asked + 1] = client end
    is_listed[client] = true
  end
end
local labels, declared = {}, -1
for from = 1, #asked, Bound.CHUNK do
  local fields = {}
  for i = from, math.min(from + Bound.CHUNK - 1, #asked) do
    fields[#fields + 1] = 'l:' .. asked[i]
  end
  for i, text in ipairs(call('HMGET', meta, unpack(fields))) do
    local client, limit, label = asked[from + i - 1], string.match(text or '', '^(%d+) (.*)')
    if limit then
      declared = math.max(declared, limit + 0)
      if is_listed[client] and label ~= '' then
        -- Anybody may have written it.
        labels[#labels + 1], labels[#labels + 2] = client, string.sub(label, 1, Bound.LABEL)
        is_listed[client] = false
      end
    end
  end
end

if held == 0 then extra = 0 end
local grace_ends = now_ms
local kept = grace == 1 and call('HGET', meta, 'server')
if kept then
  local _, _, _, ends = struct.unpack(Server.FORMAT, kept)
  grace_ends = math.max(now_ms, ends)
end
return {
  now,
  override,
  declared,
  held + extra,
  held,
  waiting,
  holders,
  waiters,
  labels,
  grace_ends - now_ms,
}
