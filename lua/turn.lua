-- The turn: one atomic call that settles all a client has to say about one semaphore.
--
-- ARGV  1 client  2 limit  3 seen  4 epoch  5 label  6 incarnation of the renewed ids  7 channel
--       8.. counts of: releases, cancels, renewals, asks, admits; then those lists, flat:
--       release: id   cancel: id   renewal: id ms   ask: id ticket(0 = none known) rule   admit: id rule
--       rule: w = wait, t = try, a number = wait unless so many wait already
-- Reply {0, epoch} when a newer turn of this client has run already, else a flat list:
--       1, incarnation, in use, limit, overridden, waiting, last number, lapsed, more,
--       ms until the earliest deadline or less (-1 unless the head of the queue is the caller's),
--       count + indices of releases that found nothing, count + (index, code) of renewals
--       that were not plain (1 gone, 2 kicked, 3 put back), per ask and then per admit
--       1 token | 2 ticket place | 3 refused | 4 kicked | 5 too large | 6 ticket place (was gone) |
--       7 token (was granted before),
--       count + (id, token | 0 = too large) of other waiters of the caller taken from the queue.
-- Keeps: units in use never pass the limit; grants go to the lowest ticket; each number given
-- out (token or ticket) is above all before it; every prefix of the writes is a legal state.
--
-- Redis runs nothing else meanwhile, so a turn pays only for what it has to say: what a step
-- alone needs is made within it, numbers go out as texts made once (Redis formats each number
-- it is given anew), and `+ 0` reads a number at half the cost of tonumber.

local BOUND, CLAIM_MS, ALIVE_MS, FORGET_CLIENT_MS = 96, 3000, 3000, 3600000

local call = redis.call
local permits, queue, clients, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, label = ARGV[1], ARGV[5]
local n_release, n_cancel, n_renew, n_ask, n_admit =
  ARGV[8] + 0, ARGV[9] + 0, ARGV[10] + 0, ARGV[11] + 0, ARGV[12] + 0
local cursor = 12 -- in front of the list that comes next

-- Everything is read before anything is written, so a key of a wrong type changes nothing.
local known = call('HMGET', meta, 'inc', 'last', 'limit', 'extra', 'ttl', 'kicked', 'e:' .. me)
local held = call('ZCARD', permits)
local waiting = call('ZCARD', queue)
local alive_until = 0
if n_ask + n_admit + waiting > 0 then alive_until = (call('ZSCORE', clients, me) or 0) + 0 end

local epoch, stored_epoch = ARGV[4] + 0, (known[7] or 0) + 0
if epoch < stored_epoch then return { 0, stored_epoch } end

local now_ms = floor(now / 1000)
local incarnation, override = (known[1] or 0) + 0, known[3] and known[3] + 0
local before = max((known[2] or 0) + 0, ARGV[3] + 0, now - 1)
local last = before
local extra, ttl, kicked_until = (known[4] or 0) + 0, (known[5] or 0) + 0, (known[6] or 0) + 0
local limit = override or ARGV[2] + 0
local needed_until = 0 -- the latest instant that any key must live to
local new_permits, new_queue, new_clients, new_meta = false, false, false, false
local more = 0

if incarnation == 0 then
  incarnation, new_meta = now, true
  needed_until = now_ms
  extra = 0
  if held > 0 then -- meta was lost alone: find out anew what it told of the permits
    for _, id in ipairs(call('ZRANGE', permits, '0', '-1')) do
      extra = extra + units_of(id) - 1
    end
    kicked_until = math.ceil(call('ZRANGE', permits, '-1', '-1', 'WITHSCORES')[2] + 0)
    needed_until = max(needed_until, kicked_until)
    call('HSET', meta, 'extra', extra, 'kicked', kicked_until)
  elseif known[4] then
    call('HSET', meta, 'extra', '0')
  end
elseif held == 0 and extra ~= 0 then
  extra = 0
  call('HSET', meta, 'extra', '0')
end

local function remember_client(until_ms)
  new_clients = true
  needed_until = max(needed_until, until_ms)
  call('ZADD', clients, 'GT', until_ms, me)
end

if epoch > stored_epoch then
  call('HSET', meta, 'e:' .. me, epoch)
  remember_client(now_ms)
end
if label ~= '' and call('HGET', meta, 'l:' .. me) ~= label then
  call('HSET', meta, 'l:' .. me, label)
  remember_client(now_ms)
end

-- `extra` moves before the ids do: out of memory stops the HINCRBY, and then nothing has moved.
local function drop_extra(units)
  if units ~= 0 then
    extra = extra - units
    call('HINCRBY', meta, 'extra', -units)
  end
end

-- True where the id was there.
local function remove_heavy(id)
  if not call('ZSCORE', permits, id) then return false end
  drop_extra(units_of(id) - 1)
  call('ZREM', permits, id)
  held = held - 1
  return true
end

-- 1. prune; take-backs alone do not depend on it while nobody waits
local earliest = nil -- no deadline is before it; nil = not known
local only_takes_back = n_release + n_cancel > 0 and n_renew + n_ask + n_admit == 0
if held > 0 and not (only_takes_back and waiting == 0) then
  earliest = call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  if earliest <= now_ms then
    earliest = nil
    local expired = call('ZRANGEBYSCORE', permits, '-inf', now_ms, 'LIMIT', '0', BOUND)
    if #expired == BOUND then more = 1 end
    for from = 1, #expired, CHUNK do
      local to, heavy = min(from + CHUNK - 1, #expired), 0
      for i = from, to do heavy = heavy + units_of(expired[i]) - 1 end
      drop_extra(heavy)
      held = held - call('ZREM', permits, unpack(expired, from, to))
    end
  end
end

-- 2. take back
local missing = {}
for i = 1, n_release do
  local id = ARGV[cursor + i]
  if find(id, '*', 19, true) then
    if not remove_heavy(id) then missing[#missing + 1] = i end
  elseif call('ZREM', permits, id) == 1 then -- one by one: to look first would cost more
    held = held - 1
  else
    missing[#missing + 1] = i
  end
end
cursor = cursor + n_release
for from = 1, n_cancel, CHUNK do
  local to = min(from + CHUNK - 1, n_cancel)
  waiting = waiting - call('ZREM', queue, unpack(ARGV, cursor + from, cursor + to))
  local light = {}
  for i = cursor + from, cursor + to do
    if find(ARGV[i], '*', 19, true) then remove_heavy(ARGV[i]) else light[#light + 1] = ARGV[i] end
  end
  if #light > 0 then held = held - call('ZREM', permits, unpack(light)) end
end
cursor = cursor + n_cancel

-- New permits are counted at once and written by flush().
local adding, adding_heavy = {}, 0
local lease, deadline, deadline_text -- most permits of a turn share a lease
local function deadline_in(ms)
  if ms ~= lease then
    lease, deadline = ms, now_ms + ms
    deadline_text = format('%d', deadline)
    needed_until = max(needed_until, deadline)
  end
  return deadline_text
end
local function flush()
  if #adding == 0 then return end
  new_permits = new_permits or held == #adding / 2
  if adding_heavy ~= 0 then call('HINCRBY', meta, 'extra', adding_heavy) end
  call('ZADD', permits, unpack(adding))
  adding, adding_heavy = {}, 0
end
local function add(id, units, ms)
  held = held + 1
  extra = extra + units - 1
  adding_heavy = adding_heavy + units - 1
  adding[#adding + 1], adding[#adding + 2] = deadline_in(ms), id
  if earliest and deadline < earliest then earliest = deadline end
  if #adding == 2 * CHUNK then flush() end
end

-- 3. renew
local not_plain = {}
for from = 1, n_renew, CHUNK do
  local to = min(from + CHUNK - 1, n_renew)
  local ids, scores, pushed = {}, nil, {}
  for i = from, to do ids[#ids + 1] = ARGV[cursor + 2 * i - 1] end
  -- Scores cost more than the pushes: they are looked at only where something may be amiss. After
  -- `more` a mark may stand on a permit that has expired.
  if kicked_until > now_ms or more == 1 then scores = call('ZMSCORE', permits, unpack(ids)) end
  for k, id in ipairs(ids) do
    if not scores or not is_kicked(scores[k] or '') then
      local ms = ARGV[cursor + 2 * (from + k - 1)] + 0
      pushed[#pushed + 1], pushed[#pushed + 2] = deadline_in(ms), id
    end
  end
  local pushes = #pushed > 0 and call('ZADD', permits, 'XX', 'GT', 'CH', unpack(pushed)) or 0
  if pushes < #ids then
    for k, score in ipairs(scores or call('ZMSCORE', permits, unpack(ids))) do
      local i, id, code = from + k - 1, ids[k], 0
      if not score then
        -- Put back only what another incarnation granted: here it was ended for good.
        local units = units_of(id)
        if ARGV[6] + 0 ~= incarnation and held + extra + units <= limit then
          code = 3
          waiting = waiting - call('ZREM', queue, id) -- never in both
          add(id, units, ARGV[cursor + 2 * i] + 0)
        else
          code = 1
        end
      elseif is_kicked(score) then
        code = 2
      end
      if code ~= 0 then not_plain[#not_plain + 1], not_plain[#not_plain + 2] = i, code end
    end
    flush()
  end
end
cursor = cursor + 2 * n_renew

-- 4. put back waiters, and look up those whose fate the caller does not know
local settled, pending -- per ask: the words of the reply, or 'new' to be admitted, or pending
if n_ask > 0 then
  settled, pending = {}, {} -- pending: id -> {ask index, ticket, reply code if still queued}
  for from = 1, n_ask, CHUNK do
    local to = min(from + CHUNK - 1, n_ask)
    local ids, pushed, back = {}, {}, {}
    for i = from, to do ids[#ids + 1] = ARGV[cursor + 3 * i - 2] end
    local tickets = call('ZMSCORE', queue, unpack(ids))
    for k, score in ipairs(call('ZMSCORE', permits, unpack(ids))) do
      local i, id = from + k - 1, ids[k]
      local ticket = ARGV[cursor + 3 * i - 1] + 0
      if score and is_kicked(score) then
        settled[i] = { 4 }
      elseif score then
        pushed[#pushed + 1], pushed[#pushed + 2] = deadline_in(lease_of(id)), id
        last = last + 1
        settled[i] = { 7, last }
      elseif tickets[k] then
        pending[id] = { i, tickets[k] + 0, 2 }
      elseif ticket > 0 then
        back[#back + 1], back[#back + 2] = ticket, id
        pending[id] = { i, ticket, 6 }
      else
        settled[i] = 'new'
      end
    end
    if #pushed > 0 then call('ZADD', permits, 'XX', 'GT', unpack(pushed)) end
    if #back > 0 then
      new_queue = new_queue or waiting == 0
      waiting = waiting + call('ZADD', queue, 'NX', unpack(back))
    end
  end
end

-- A client counts as alive for ALIVE_MS after it was heard waiting; written when a third is gone.
local lapsed = 0
local function mark_alive()
  if alive_until < now_ms + ALIVE_MS * 2 / 3 then
    alive_until = now_ms + ALIVE_MS
    remember_client(alive_until)
    local forgotten = call('ZRANGEBYSCORE', clients, '-inf', now_ms - FORGET_CLIENT_MS, 'LIMIT', '0', '16')
    if #forgotten > 0 then
      call('ZREM', clients, unpack(forgotten))
      for _, client in ipairs(forgotten) do
        call('HDEL', meta, 'e:' .. client, 'l:' .. client)
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
      words[#words + 1], words[#words + 2] = id, format('%d', token)
    elseif pending and pending[id] then
      settled[pending[id][1]] = token > 0 and { 1, token } or { 5 }
      pending[id] = nil
    else
      others[#others + 1], others[#others + 2] = id, token
    end
  end
  while waiting > 0 and not head do
    if looked == BOUND then
      more = 1
      break
    end
    local leaving = {}
    for _, id in ipairs(call('ZRANGE', queue, '0', min(width, BOUND - looked) - 1)) do
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
        add(id, units, client == me and lease_of(id) or min(lease_of(id), CLAIM_MS))
        last = last + 1
        tell(id, client, last)
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

-- 6. admit
local admitted = {}
if n_ask + n_admit > 0 then
  local entering = {}
  local function enter(id, rule)
    local units = units_of(id)
    if limit > 0 and units > limit then return 5 end
    if waiting == 0 and held + extra + units <= limit then
      add(id, units, lease_of(id))
      last = last + 1
      return 1, last
    end
    if rule == 't' or rule ~= 'w' and waiting >= rule + 0 then return 3 end
    last = last + 1
    new_queue = new_queue or waiting == 0
    entering[#entering + 1], entering[#entering + 2] = format('%d', last), id
    head = head or id
    waiting = waiting + 1
    return 2, last, waiting - 1
  end
  for i = 1, n_ask do
    if settled[i] == 'new' then
      settled[i] = { enter(ARGV[cursor + 3 * i - 2], ARGV[cursor + 3 * i]) }
    end
  end
  cursor = cursor + 3 * n_ask
  for i = cursor + 1, cursor + 2 * n_admit, 2 do
    local code, number, place = enter(ARGV[i], ARGV[i + 1])
    local n = #admitted
    admitted[n + 1], admitted[n + 2], admitted[n + 3] = code, number, place
  end
  flush()
  if #entering > 0 then
    mark_alive()
    for from = 1, #entering, 2 * CHUNK do
      call('ZADD', queue, unpack(entering, from, min(from + 2 * CHUNK - 1, #entering)))
    end
  end
end

-- 7. close the books and reply
if waiting > 0 then needed_until = max(needed_until, now_ms + ALIVE_MS) end
if needed_until > ttl then
  ttl = needed_until + TTL_SLACK_MS
  call('HSET', meta, 'inc', incarnation, 'last', last, 'ttl', ttl)
  new_permits, new_queue, new_clients, new_meta = true, true, true, true
elseif last > before then
  call('HSET', meta, 'last', format('%d', last))
end
if new_permits then call('PEXPIREAT', permits, ttl) end
if new_queue then call('PEXPIREAT', queue, ttl) end
if new_clients then call('PEXPIREAT', clients, ttl) end
if new_meta and not override then call('PEXPIREAT', meta, ttl + META_OUTLIVES_MS) end
if noted then
  for _, client in ipairs(noted) do wake(ARGV[7], client, notes[client]) end
end

local wait = -1
if head and waiting > 0 and more == 0 and held > 0 and client_of(head) == me then
  earliest = earliest or call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  wait = math.ceil(earliest) - now_ms
end

local reply = {
  1, incarnation, held + extra, limit, override and 1 or 0, waiting, last, lapsed, more, wait, #missing,
}
for i = 1, #missing do reply[#reply + 1] = missing[i] end
reply[#reply + 1] = #not_plain / 2
for i = 1, #not_plain do reply[#reply + 1] = not_plain[i] end
if settled then
  for id, ask in pairs(pending) do
    settled[ask[1]] = { ask[3], ask[2], call('ZRANK', queue, id) }
  end
  for i = 1, n_ask do
    for _, word in ipairs(settled[i]) do reply[#reply + 1] = word end
  end
end
for i = 1, #admitted do reply[#reply + 1] = admitted[i] end
reply[#reply + 1] = #others / 2
for i = 1, #others do reply[#reply + 1] = others[i] end
return reply
