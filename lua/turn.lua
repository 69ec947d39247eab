-- The turn: one atomic call that settles all a client has to say about one semaphore.
--
-- ARGV  1 client  2 limit  3 seen  4 epoch  5 label  6 incarnation of the renewed ids  7 channel
--       8.. counts of: releases, cancels, renewals, asks, admits; then those lists, flat:
--       release: id   cancel: id   renewal: id ms   ask: id ticket(0 = none known) rule   admit: id rule
--       rule: w = wait, t = try, a number = wait unless so many wait already
-- Reply {0, epoch} when a newer turn of this client has run already, else a flat list:
--       1, incarnation, in use, limit, overridden, waiting, last number, lapsed, more,
--       ms to the earliest deadline (-1 unless the head of the queue is the caller's),
--       count + indices of releases that found nothing, count + (index, code) of renewals
--       that were not plain (1 gone, 2 kicked, 3 put back), per ask and then per admit
--       1 token | 2 ticket place | 3 refused | 4 kicked | 5 too large | 6 ticket place (was gone) |
--       7 token (was granted before),
--       count + (id, token | 0 = too large) of other waiters of the caller taken from the queue.
-- Keeps: units in use never pass the limit; grants go to the lowest ticket; each number given
-- out (token or ticket) is above all before it; every prefix of the writes is a legal state.

local permits, queue, clients, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, caller_limit, seen = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local epoch, label, granted_under = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local channel = ARGV[7]
local n_release, n_cancel, n_renew = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local n_ask, n_admit = tonumber(ARGV[11]), tonumber(ARGV[12])
local cursor = 12

local BOUND, CLAIM_MS, ALIVE_MS, TTL_SLACK_MS, FORGET_CLIENT_MS = 96, 3000, 3000, 10000, 3600000

-- Everything is read before anything is written, so a key of a wrong type changes nothing.
local now = now_micros()
local now_ms = floor(now / 1000)
local known = redis.call('HMGET', meta, 'inc', 'last', 'limit', 'extra', 'ttl', 'e:' .. me, 'l:' .. me)
local held = redis.call('ZCARD', permits)
local waiting = redis.call('ZCARD', queue)
local alive_until = tonumber(redis.call('ZSCORE', clients, me) or '0')

local stored_epoch = tonumber(known[6] or '0')
if epoch < stored_epoch then
  return { 0, stored_epoch }
end

local incarnation = tonumber(known[1] or '0')
local before = max(tonumber(known[2] or '0'), seen, now - 1)
local last = before
local override = tonumber(known[3] or '')
local extra = tonumber(known[4] or '0')
local ttl = tonumber(known[5] or '0')
local limit = override or caller_limit
local news = {} -- fields of meta to write at the end
local needed_until = 0 -- the latest instant that any key must live to
local new_permits, new_queue, new_clients, new_meta = false, false, false, false
local more = 0

if incarnation == 0 then
  incarnation, new_meta = now, true
  news[#news + 1], news[#news + 2] = 'inc', now
  needed_until = now_ms
  extra = 0
  if held > 0 then -- meta was lost alone: count the heavy permits anew
    for _, id in ipairs(redis.call('ZRANGE', permits, 0, -1)) do
      extra = extra + units_of(id) - 1
    end
    redis.call('HSET', meta, 'extra', extra)
  elseif known[4] then
    redis.call('HSET', meta, 'extra', 0)
  end
elseif held == 0 and extra ~= 0 then
  extra = 0
  redis.call('HSET', meta, 'extra', 0)
end

local function remember_client(until_ms)
  new_clients = true
  needed_until = max(needed_until, until_ms)
  redis.call('ZADD', clients, 'GT', until_ms, me)
end

if epoch > stored_epoch then
  redis.call('HSET', meta, 'e:' .. me, epoch)
  remember_client(now_ms)
end
if label ~= '' and label ~= known[7] then
  redis.call('HSET', meta, 'l:' .. me, label)
  remember_client(now_ms)
end

local function next_number()
  last = last + 1
  return last
end

-- `extra` moves before the ids do: out of memory stops the HINCRBY, and then nothing has moved.
local function drop_extra(units)
  if units ~= 0 then
    extra = extra - units
    redis.call('HINCRBY', meta, 'extra', -units)
  end
end

local function fits(units)
  return held + extra + units <= limit
end

-- New permits on their way into `permits`: counted at once, written by flush().
local function batch()
  local b = { pairs = {}, heavy = 0 }
  function b.add(id, units, deadline)
    held = held + 1
    extra = extra + units - 1
    b.heavy = b.heavy + units - 1
    b.pairs[#b.pairs + 1], b.pairs[#b.pairs + 2] = deadline, id
    needed_until = max(needed_until, deadline)
    if #b.pairs == 2 * CHUNK then b.flush() end
  end
  function b.flush()
    if #b.pairs == 0 then return end
    new_permits = new_permits or held == #b.pairs / 2
    if b.heavy ~= 0 then redis.call('HINCRBY', meta, 'extra', b.heavy) end
    redis.call('ZADD', permits, unpack(b.pairs))
    b.pairs, b.heavy = {}, 0
  end
  return b
end

-- True where the id was there.
local function remove_heavy(id)
  if not redis.call('ZSCORE', permits, id) then return false end
  drop_extra(units_of(id) - 1)
  redis.call('ZREM', permits, id)
  held = held - 1
  return true
end

local function slice(from, to)
  local ids = {}
  for i = from, to do ids[#ids + 1] = ARGV[i] end
  return ids
end

-- 1. prune
if held > 0 then
  local expired = redis.call('ZRANGEBYSCORE', permits, '-inf', now_ms, 'LIMIT', 0, BOUND)
  if #expired == BOUND then more = 1 end
  for from = 1, #expired, CHUNK do
    local ids, heavy = {}, 0
    for i = from, min(from + CHUNK - 1, #expired) do
      ids[#ids + 1] = expired[i]
      heavy = heavy + units_of(expired[i]) - 1
    end
    drop_extra(heavy)
    held = held - redis.call('ZREM', permits, unpack(ids))
  end
end

-- 2. take back
local missing = {}
for from = 1, n_release, CHUNK do
  local to = min(from + CHUNK - 1, n_release)
  local light, index = {}, {}
  for i = from, to do
    local id = ARGV[cursor + i]
    if not is_heavy(id) then
      light[#light + 1], index[#index + 1] = id, i
    elseif not remove_heavy(id) then
      missing[#missing + 1] = i
    end
  end
  if #light == 1 then
    local removed = redis.call('ZREM', permits, light[1])
    held = held - removed
    if removed == 0 then missing[#missing + 1] = index[1] end
  elseif #light > 1 then
    for k, score in ipairs(redis.call('ZMSCORE', permits, unpack(light))) do
      if not score then missing[#missing + 1] = index[k] end
    end
    held = held - redis.call('ZREM', permits, unpack(light))
  end
end
cursor = cursor + n_release
for from = 1, n_cancel, CHUNK do
  local ids = slice(cursor + from, cursor + min(from + CHUNK - 1, n_cancel))
  waiting = waiting - redis.call('ZREM', queue, unpack(ids))
  local light = {}
  for _, id in ipairs(ids) do
    if is_heavy(id) then remove_heavy(id) else light[#light + 1] = id end
  end
  if #light > 0 then held = held - redis.call('ZREM', permits, unpack(light)) end
end
cursor = cursor + n_cancel

-- 3. renew
local not_plain = {}
for from = 1, n_renew, CHUNK do
  local to = min(from + CHUNK - 1, n_renew)
  local ids, pushed, back = {}, {}, batch()
  local ms, deadline -- most ids of a turn share a lease: work it out once
  for i = from, to do ids[#ids + 1] = ARGV[cursor + 2 * i - 1] end
  for k, score in ipairs(redis.call('ZMSCORE', permits, unpack(ids))) do
    local i, id = from + k - 1, ids[k]
    if ARGV[cursor + 2 * i] ~= ms then
      ms = ARGV[cursor + 2 * i]
      deadline = now_ms + tonumber(ms)
    end
    local code = 0
    if not score then
      -- Put back only what another incarnation granted: here it was ended for good.
      if granted_under ~= incarnation and fits(units_of(id)) then
        code = 3
        waiting = waiting - redis.call('ZREM', queue, id) -- never in both
        back.add(id, units_of(id), deadline)
      else
        code = 1
      end
    elseif is_kicked(score) then
      code = 2
    else
      pushed[#pushed + 1], pushed[#pushed + 2] = deadline, id
      if deadline > needed_until then needed_until = deadline end
    end
    if code ~= 0 then not_plain[#not_plain + 1], not_plain[#not_plain + 2] = i, code end
  end
  if #pushed > 0 then redis.call('ZADD', permits, 'XX', 'GT', unpack(pushed)) end
  back.flush()
end
cursor = cursor + 2 * n_renew

-- 4. put back waiters, and look up those whose fate the caller does not know
local settled = {} -- per ask: the words of the reply, or 'new' to be admitted, or pending
local pending = {} -- id -> {ask index, ticket, reply code if still queued}
for from = 1, n_ask, CHUNK do
  local to = min(from + CHUNK - 1, n_ask)
  local ids, pushed, back = {}, {}, {}
  for i = from, to do ids[#ids + 1] = ARGV[cursor + 3 * i - 2] end
  local tickets = redis.call('ZMSCORE', queue, unpack(ids))
  for k, score in ipairs(redis.call('ZMSCORE', permits, unpack(ids))) do
    local i = from + k - 1
    local ticket = tonumber(ARGV[cursor + 3 * i - 1])
    if score and is_kicked(score) then
      settled[i] = { 4 }
    elseif score then
      local deadline = now_ms + lease_of(ids[k])
      pushed[#pushed + 1], pushed[#pushed + 2] = deadline, ids[k]
      needed_until = max(needed_until, deadline)
      settled[i] = { 7, next_number() }
    elseif tickets[k] then
      pending[ids[k]] = { i, tonumber(tickets[k]), 2 }
    elseif ticket > 0 then
      back[#back + 1], back[#back + 2] = ticket, ids[k]
      pending[ids[k]] = { i, ticket, 6 }
    else
      settled[i] = 'new'
    end
  end
  if #pushed > 0 then redis.call('ZADD', permits, 'XX', 'GT', unpack(pushed)) end
  if #back > 0 then
    new_queue = new_queue or waiting == 0
    waiting = waiting + redis.call('ZADD', queue, 'NX', unpack(back))
  end
end

-- A client counts as alive for ALIVE_MS after it was heard waiting; written when a third is gone.
local lapsed = 0
local function mark_alive()
  if alive_until < now_ms + ALIVE_MS * 2 / 3 then
    alive_until = now_ms + ALIVE_MS
    remember_client(alive_until)
    local forgotten = redis.call('ZRANGEBYSCORE', clients, '-inf', now_ms - FORGET_CLIENT_MS, 'LIMIT', 0, 16)
    if #forgotten > 0 then
      redis.call('ZREM', clients, unpack(forgotten))
      for _, client in ipairs(forgotten) do
        redis.call('HDEL', meta, 'e:' .. client, 'l:' .. client)
      end
    end
  end
end
if n_ask > 0 then
  if alive_until <= now_ms then lapsed = 1 end
  mark_alive()
end

-- 5. serve
local head = nil -- the waiter that now stands first and does not fit
local others = {} -- waiters of the caller that it did not ask about: id, token
local notes, noted = {}, {} -- words for other clients, in the order of their first grant
local alive = { [me] = true }
local looked, blocked = 0, false
local width = max(1, min(CHUNK, limit - held - extra + 1))
local function tell(id, client, token)
  if client == me then
    local ask = pending[id]
    if ask then
      settled[ask[1]] = token > 0 and { 1, token } or { 5 }
      pending[id] = nil
    else
      others[#others + 1], others[#others + 2] = id, token
    end
  else
    if not notes[client] then
      notes[client] = {}
      noted[#noted + 1] = client
    end
    local words = notes[client]
    words[#words + 1], words[#words + 2] = id, big(token)
  end
end
while waiting > 0 and not blocked do
  if looked >= BOUND then
    more = 1
    break
  end
  local heads = redis.call('ZRANGE', queue, 0, min(width, BOUND - looked) - 1)
  local leaving, grants = {}, batch()
  for _, id in ipairs(heads) do
    looked = looked + 1
    local client, units = client_of(id), units_of(id)
    if alive[client] == nil then
      alive[client] = tonumber(redis.call('ZSCORE', clients, client) or '0') > now_ms
    end
    if not alive[client] then
      leaving[#leaving + 1] = id
    elseif limit > 0 and units > limit and (override or client == me) then
      -- Without an override only the owner knows its limit: a lower one must not turn it away.
      leaving[#leaving + 1] = id
      tell(id, client, 0)
    elseif fits(units) then
      local lease = lease_of(id)
      if client ~= me then lease = min(lease, CLAIM_MS) end
      leaving[#leaving + 1] = id
      grants.add(id, units, now_ms + lease)
      tell(id, client, next_number())
    else
      blocked, head = true, id
      break
    end
  end
  grants.flush()
  if #leaving > 0 then waiting = waiting - redis.call('ZREM', queue, unpack(leaving)) end
  width = CHUNK
end

-- 6. admit
local admitted, entering, grants = {}, {}, batch()
local function enter(id, rule)
  local units = units_of(id)
  if limit > 0 and units > limit then return 5 end
  if waiting == 0 and fits(units) then
    grants.add(id, units, now_ms + lease_of(id))
    return 1, next_number()
  end
  if rule == 't' then return 3 end
  if rule ~= 'w' and waiting >= tonumber(rule) then return 3 end
  local ticket = next_number()
  new_queue = new_queue or waiting == 0
  entering[#entering + 1], entering[#entering + 2] = ticket, id
  head = head or id
  waiting = waiting + 1
  return 2, ticket, waiting - 1
end
for i = 1, n_ask do
  if settled[i] == 'new' then
    settled[i] = { enter(ARGV[cursor + 3 * i - 2], ARGV[cursor + 3 * i]) }
  end
end
cursor = cursor + 3 * n_ask
for i = 1, n_admit do
  local code, number, place = enter(ARGV[cursor + 2 * i - 1], ARGV[cursor + 2 * i])
  admitted[#admitted + 1] = code
  if number then admitted[#admitted + 1] = number end
  if place then admitted[#admitted + 1] = place end
end
grants.flush()
if #entering > 0 then
  mark_alive()
  for from = 1, #entering, 2 * CHUNK do
    redis.call('ZADD', queue, unpack(entering, from, min(from + 2 * CHUNK - 1, #entering)))
  end
end

-- 7. close the books and reply
if waiting > 0 then needed_until = max(needed_until, now_ms + ALIVE_MS) end
if needed_until > ttl then
  ttl = needed_until + TTL_SLACK_MS
  news[#news + 1], news[#news + 2] = 'ttl', ttl
  new_permits, new_queue, new_clients, new_meta = true, true, true, true
end
if last > before then
  news[#news + 1], news[#news + 2] = 'last', last
end
if #news > 0 then redis.call('HSET', meta, unpack(news)) end
if new_permits then redis.call('PEXPIREAT', permits, ttl) end
if new_queue then redis.call('PEXPIREAT', queue, ttl) end
if new_clients then redis.call('PEXPIREAT', clients, ttl) end
if new_meta and not override then redis.call('PEXPIREAT', meta, ttl + META_OUTLIVES_MS) end
for _, client in ipairs(noted) do wake(channel, client, notes[client]) end

local earliest = -1
if head and waiting > 0 and more == 0 and held > 0 and client_of(head) == me then
  local first = redis.call('ZRANGE', permits, 0, 0, 'WITHSCORES')
  earliest = math.ceil(tonumber(first[2])) - now_ms
end

local reply = {
  1, incarnation, held + extra, limit, override and 1 or 0, waiting, last, lapsed, more, earliest,
}
local function append(words)
  for _, word in ipairs(words) do reply[#reply + 1] = word end
end
append({ #missing })
append(missing)
append({ #not_plain / 2 })
append(not_plain)
for id, ask in pairs(pending) do
  settled[ask[1]] = { ask[3], ask[2], redis.call('ZRANK', queue, id) }
end
for i = 1, n_ask do append(settled[i]) end
append(admitted)
append({ #others / 2 })
append(others)
return reply
