-- The turn: one atomic call that settles all a client has to say about one semaphore.
--
-- ARGV  1 client  2 limit  3 seen; then sections, each but for `e`, `l` and `i` any number of times, in this order:
--       e epoch (0 without)   l label   r count token ids   R count ids   c count ids
--       i incarnation of the renewed ids   n count ms ids   q count (id ticket rule)
--       w count ids   a count rule units ms ids
--       r releases ids of one unit; no token of them is lower (0 where one is not known or where a
--       lease may have ended)
--       R releases ids of more   c cancels   n renews   q asks; a ticket of 0: none known
--       w admits waiters for one unit with the default lease, a others
--       rule: w = wait, t = try, a number = wait unless so many wait already
-- Reply {0, epoch} when a newer turn of this client has run already, else a flat list:
--       1 + flags, incarnation, in use, waiting, last number; then what the flags tell of:
--       2 overridden: limit   4 waiters asked about were lost, and are back   8 more   16 the head of the queue is the caller's: ms until
--       the earliest deadline or less   32 releases that found nothing: count, indices
--       64 renewals that were not plain: count, (index, 1 gone | 2 kicked | 3 put back)
--       128 other waiters of the caller taken from the queue: count, (id, token | 0 = too large);
--       then per ask 1 token | 2 ticket place | 3 refused | 4 kicked | 5 too large |
--       7 token (was granted before),
--       then runs of admits that fared alike, with rising numbers: count, code as for asks, first
--       number and place as for asks.
-- Keeps: units in use never pass the limit; grants go to the lowest ticket; each number given
-- out (token or ticket) is above all before it; every prefix of the writes is a legal state.
--
-- Redis runs nothing else meanwhile, so a turn pays only for what it has to say: what a step
-- alone needs is made within it, ids come in runs of a kind so that none is taken apart, numbers go
-- out as texts made once (Redis formats a number each time it is given one), and `+ 0` reads a number at
-- half the cost of tonumber.

local BOUND, CLAIM_MS, ALIVE_MS = 96, 3000, 3000
local FORGET_CLIENT_MS, FORGET_AT_ONCE = 3600000, 16

local call, ARGV = redis.call, ARGV
local permits, queue, clients, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me = ARGV[1]
local at = 4 -- where the next section begins

-- Read before anything is written, so keys of a wrong type change nothing.
local known = call('HMGET', meta, 'inc', 'last', 'limit', 'extra', 'ttl', me)
local held = call('ZCARD', permits)
local waiting = call('ZCARD', queue)

local epoch, stored_epoch = 0, (known[6] or 0) + 0
if ARGV[at] == 'e' then
  epoch = ARGV[at + 1] + 0
  at = at + 2
end
if epoch < stored_epoch then return { 0, stored_epoch } end

local now_ms = floor(now / 1000)
local incarnation, override = (known[1] or 0) + 0, known[3] and known[3] + 0
local seen = ARGV[3] + 0
local before = max((known[2] or 0) + 0, seen, now - 1)
local last = before
local extra, ttl = (known[4] or 0) + 0, (known[5] or 0) + 0
local limit = override or ARGV[2] + 0
local needed_until = 0 -- the latest instant that any key must live to
local new_permits, new_queue, new_clients, new_meta = false, false, false, false
local more = 0

local recount = incarnation == 0 and held > 0 -- meta was lost alone
local latest = 0
if recount then
  extra = 0
  for _, id in ipairs(call('ZRANGE', permits, '0', '-1')) do
    extra = extra + units_of(id) - 1
  end
  latest = math.ceil(call('ZRANGE', permits, '-1', '-1', 'WITHSCORES')[2] + 0)
elseif held == 0 then
  extra = 0
end

if recount then
  call('HSET', meta, 'extra', extra, 'kicked', latest)
elseif extra ~= (known[4] or 0) + 0 then
  call('HSET', meta, 'extra', '0')
end
if incarnation == 0 then
  incarnation, new_meta = now, true
  needed_until = max(now_ms, latest)
end

local function remember_client(until_ms)
  new_clients = true
  needed_until = max(needed_until, until_ms)
  call('ZADD', clients, 'GT', until_ms, me)
end

if epoch > stored_epoch then
  call('HSET', meta, me, epoch)
  remember_client(now_ms)
end
if ARGV[at] == 'l' then
  local label = ARGV[at + 1]
  at = at + 2
  if call('HGET', meta, 'l:' .. me) ~= label then
    call('HSET', meta, 'l:' .. me, label)
    remember_client(now_ms)
  end
end

local earliest = nil -- no deadline is before it; nil = not known

-- New permits are counted at once and written by flush().
local adding, n_adding, adding_heavy = {}, 0, 0
local lease, deadline, deadline_text -- most permits of a turn share a lease
local function deadline_in(ms)
  if ms ~= lease then
    lease, deadline = ms, now_ms + ms
    deadline_text = format(WHOLE, deadline)
    needed_until = max(needed_until, deadline)
  end
  return deadline_text
end
local function flush()
  if n_adding == 0 then return end
  if adding_heavy ~= 0 then call('HINCRBY', meta, 'extra', adding_heavy) end
  call('ZADD', permits, unpack(adding, 1, n_adding))
  n_adding, adding_heavy = 0, 0
end
local function add(list, first, to, units, ms)
  local text = deadline_in(ms)
  if earliest and deadline < earliest then earliest = deadline end
  new_permits = new_permits or held == 0
  for i = first, to do
    if n_adding == 2 * CHUNK then flush() end
    adding[n_adding + 1], adding[n_adding + 2] = text, list[i]
    n_adding = n_adding + 2
    adding_heavy = adding_heavy + units - 1
  end
  held = held + to - first + 1
  extra = extra + (to - first + 1) * (units - 1)
end

-- 1. prune: once, before the first thing that depends on it
local pruned = false
local function prune()
  if pruned then return false end
  pruned = true
  if held == 0 then return false end
  flush()
  earliest = call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  if earliest > now_ms then return false end
  earliest = nil
  local expired = call('ZRANGEBYSCORE', permits, '-inf', now_ms, 'LIMIT', '0', BOUND)
  if #expired == BOUND then more = 1 end
  for from = 1, #expired, CHUNK do
    local to, heavy = min(from + CHUNK - 1, #expired), 0
    for i = from, to do heavy = heavy + units_of(expired[i]) - 1 end
    -- Before the ids do: out of memory stops the HINCRBY, and then nothing has moved.
    if heavy ~= 0 then call('HINCRBY', meta, 'extra', -heavy) end
    extra = extra - heavy
    held = held - call('ZREM', permits, unpack(expired, from, to))
  end
  return true
end
if at > #ARGV then prune() end -- nothing is said: all is looked after

-- 2. take back
local missing, releases = nil, 0 -- the indices of releases that found nothing
while ARGV[at] == 'r' do
  local count, first = ARGV[at + 1] + 0, at + 3
  local to = first + count - 1
  -- Permits up to this number may have gone otherwise than by their owner or their lease.
  local removed = count > 1 and max(incarnation, (call('HGET', meta, 'removed') or 0) + 0)
  if removed and ARGV[at + 2] + 0 > removed then -- all are there, or all were lost with data
    local found = 0
    for from = first, to, CHUNK do
      found = found + call('ZREM', permits, unpack(ARGV, from, min(from + CHUNK - 1, to)))
    end
    held = held - found
    if found == 0 then
      missing = missing or {}
      for i = 1, count do missing[#missing + 1] = releases + i end
    end
  else -- one by one: to look first would cost more
    for i = first, to do
      if call('ZREM', permits, ARGV[i]) == 1 then
        held = held - 1
      else
        missing = missing or {}
        missing[#missing + 1] = releases + i - first + 1
      end
    end
  end
  releases, at = releases + count, to + 1
end
if ARGV[at] == 'R' or ARGV[at] == 'c' then
  -- True where the id was there.
  local function remove_heavy(id)
    if not call('ZSCORE', permits, id) then return false end
    local units = units_of(id)
    extra = extra - units + 1
    call('HINCRBY', meta, 'extra', 1 - units)
    call('ZREM', permits, id)
    held = held - 1
    return true
  end
  while ARGV[at] == 'R' do
    local count = ARGV[at + 1] + 0
    for i = 1, count do
      if not remove_heavy(ARGV[at + 1 + i]) then
        missing = missing or {}
        missing[#missing + 1] = releases + i
      end
    end
    releases, at = releases + count, at + 2 + count
  end
  while ARGV[at] == 'c' do
    local first = at + 2
    at = first + ARGV[at + 1]
    for from = first, at - 1, CHUNK do
      local to = min(from + CHUNK - 1, at - 1)
      waiting = waiting - call('ZREM', queue, unpack(ARGV, from, to))
      local light = {}
      for i = from, to do
        if find(ARGV[i], '*', 19, true) then remove_heavy(ARGV[i]) else light[#light + 1] = ARGV[i] end
      end
      if #light > 0 then held = held - call('ZREM', permits, unpack(light)) end
    end
  end
end

-- 3. renew
local not_plain, renewals, granted_under = nil, 0, incarnation
if ARGV[at] == 'i' then
  granted_under = ARGV[at + 1] + 0
  at = at + 2
end
if ARGV[at] == 'n' then prune() end
local kicked_until = ARGV[at] == 'n' and max(latest, (call('HGET', meta, 'kicked') or 0) + 0)
while ARGV[at] == 'n' do
  local count, ms, first = ARGV[at + 1] + 0, ARGV[at + 2] + 0, at + 3
  local text = deadline_in(ms)
  for from = 1, count, CHUNK do
    local ids, scores, pushed = { unpack(ARGV, first + from - 1, first + min(from + CHUNK - 1, count) - 1) }, nil, {}
    -- Scores cost more than the pushes: they are looked at only where something may be amiss.
    -- After `more` a mark may stand on a permit that has expired.
    if kicked_until > now_ms or more == 1 then scores = call('ZMSCORE', permits, unpack(ids)) end
    for k = 1, #ids do
      if not scores or not is_kicked(scores[k] or '') then
        pushed[#pushed + 1], pushed[#pushed + 2] = text, ids[k]
      end
    end
    local pushes = #pushed > 0 and call('ZADD', permits, 'XX', 'GT', 'CH', unpack(pushed)) or 0
    if pushes < #ids then
      for k, score in ipairs(scores or call('ZMSCORE', permits, unpack(ids))) do
        local id, code = ids[k], 0
        if not score then
          -- Put back only what another incarnation granted: here it was ended for good.
          local units = units_of(id)
          if granted_under ~= incarnation and held + extra + units <= limit then
            code = 3
            waiting = waiting - call('ZREM', queue, id) -- never in both
            add(ids, k, k, units, ms)
          else
            code = 1
          end
        elseif is_kicked(score) then
          code = 2
        end
        if code ~= 0 then
          not_plain = not_plain or {}
          not_plain[#not_plain + 1], not_plain[#not_plain + 2] = renewals + from + k - 1, code
        end
      end
      flush()
    end
  end
  renewals, at = renewals + count, first + count
end

-- Who was not answered under this incarnation may have sent this turn before data was lost, with what
-- made it void, and what it admits may be held or wait by now: that is asked about.
local newcomers = 0 -- how many stand behind the asks
if seen > 0 and seen < incarnation and held + waiting > 0 and at <= #ARGV then
  local words, asked = { 'q' }, 0
  while at <= #ARGV do
    local count, first, rule = ARGV[at + 1] + 0, at + 2, 'w'
    if ARGV[at] == 'q' then
      for i = first, first + 3 * count - 1 do words[i - first + 3] = ARGV[i] end
      asked, at = count, first + 3 * count
    else
      if ARGV[at] == 'a' then rule, first = ARGV[first], first + 3 end
      for i = first, first + count - 1 do
        local n = 3 * (asked + newcomers)
        words[n + 3], words[n + 4], words[n + 5] = ARGV[i], '0', rule
        newcomers = newcomers + 1
      end
      at = first + count
    end
  end
  words[2] = asked + newcomers
  ARGV, at = words, 1
end

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

-- 6. admit
local fared = {} -- count, code, first number, first place
-- Most turns stop here: there is room for those who want one unit.
while ARGV[at] == 'w' and n_ask == 0 and waiting == 0 and held + extra + ARGV[at + 1] <= limit do
  local count, n = ARGV[at + 1] + 0, #fared
  fared[n + 1], fared[n + 2], fared[n + 3] = count, 1, last + 1
  add(ARGV, at + 2, at + 1 + count, 1, DEFAULT_LEASE_MS)
  last, at = last + count, at + 2 + count
end
if n_ask > 0 or at <= #ARGV then
  local entering = nil
  -- Runs of waiters of a kind, which stand in `list` from `first` on, one after the other.
  local function enter(list, first, count, rule, units, ms)
    local to, run = first + count - 1, #fared
    if limit > 0 and units > limit then
      fared[run + 1], fared[run + 2] = count, 5
      return
    end
    if waiting == 0 then
      if held + extra + units * count > limit then prune() end
      local fits = min(count, max(0, floor((limit - held - extra) / units)))
      if fits > 0 then
        fared[run + 1], fared[run + 2], fared[run + 3] = fits, 1, last + 1
        run = run + 3
        add(list, first, first + fits - 1, units, ms)
        last, first = last + fits, first + fits
      end
    end
    local queued = to - first + 1
    if rule == 't' then queued = 0 elseif rule ~= 'w' then queued = max(0, min(queued, rule - waiting)) end
    if queued > 0 then
      fared[run + 1], fared[run + 2], fared[run + 3], fared[run + 4] = queued, 2, last + 1, waiting
      run = run + 4
      new_queue = new_queue or waiting == 0
      head = head or list[first]
      entering = entering or {}
      for i = first, first + queued - 1 do
        last = last + 1
        entering[#entering + 1], entering[#entering + 2] = format(WHOLE, last), list[i]
      end
      waiting, first = waiting + queued, first + queued
    end
    if first <= to then fared[run + 1], fared[run + 2] = to - first + 1, 3 end
  end
  for i = 1, n_ask do
    if settled[i] == 'new' then
      local id = ARGV[asks + 3 * i - 2]
      enter({ id }, 1, 1, ARGV[asks + 3 * i], units_of(id), lease_of(id))
      settled[i] = { unpack(fared, 2) }
      fared = {}
    end
  end
  while at <= #ARGV do
    local count, first, rule, units, ms = ARGV[at + 1] + 0, at + 2, 'w', 1, DEFAULT_LEASE_MS
    if ARGV[at] == 'a' then
      rule, units, ms = ARGV[first], ARGV[first + 1] + 0, ARGV[first + 2] + 0
      first = first + 3
    end
    enter(ARGV, first, count, rule, units, ms)
    at = first + count
  end
  -- Who waits counts as alive for ALIVE_MS; written when a third is gone.
  if (n_ask > 0 or entering) and (call('ZSCORE', clients, me) or 0) + 0 < now_ms + ALIVE_MS * 2 / 3 then
    remember_client(now_ms + ALIVE_MS)
  end
  if entering then
    for from = 1, #entering, 2 * CHUNK do
      call('ZADD', queue, unpack(entering, from, min(from + 2 * CHUNK - 1, #entering)))
    end
  end
end

flush()

-- 7. close the books and reply
if waiting > 0 then needed_until = max(needed_until, now_ms + ALIVE_MS) end
if needed_until > ttl then
  ttl = needed_until + TTL_SLACK_MS
  call('HSET', meta, 'inc', incarnation, 'last', last, 'ttl', ttl)
  new_permits, new_queue, new_clients, new_meta = true, true, true, true
elseif last > before then
  call('HSET', meta, 'last', format(WHOLE, last))
end
if new_permits then call('PEXPIREAT', permits, ttl) end
if new_queue then call('PEXPIREAT', queue, ttl) end
-- Clients not heard of for an hour are forgotten by turns that write about clients, or move their end.
if new_clients and call('PEXPIREAT', clients, ttl) == 1 then
  local gone = call('ZRANGEBYSCORE', clients, '-inf', now_ms - FORGET_CLIENT_MS, 'LIMIT', '0', FORGET_AT_ONCE)
  if #gone > 0 then
    local fields = {}
    for i, client in ipairs(gone) do
      fields[2 * i - 1], fields[2 * i] = client, 'l:' .. client
    end
    call('ZREM', clients, unpack(gone))
    call('HDEL', meta, unpack(fields))
  end
end
if new_meta and not override then call('PEXPIREAT', meta, ttl + META_OUTLIVES_MS) end
if noted then
  for _, client in ipairs(noted) do wake(client, notes[client]) end
end

local flags = 1
local reply = { flags, incarnation, held + extra, waiting, last }
if override then
  flags, reply[#reply + 1] = flags + 2, limit
end
if put_back then flags = flags + 4 end
if more == 1 then flags = flags + 8 end
if head and waiting > 0 and more == 0 and held > 0 and client_of(head) == me then
  earliest = earliest or call('ZRANGE', permits, '0', '0', 'WITHSCORES')[2] + 0
  flags, reply[#reply + 1] = flags + 16, max(0, math.ceil(earliest) - now_ms)
end
if missing then
  flags, reply[#reply + 1] = flags + 32, #missing
  for i = 1, #missing do reply[#reply + 1] = missing[i] end
end
if not_plain then
  flags, reply[#reply + 1] = flags + 64, #not_plain / 2
  for i = 1, #not_plain do reply[#reply + 1] = not_plain[i] end
end
if others then
  flags, reply[#reply + 1] = flags + 128, #others / 2
  for i = 1, #others do reply[#reply + 1] = others[i] end
end
if settled then
  for id, ask in pairs(pending) do
    settled[ask[1]] = { 2, ask[2], call('ZRANK', queue, id) }
  end
  for i = 1, n_ask do
    if i > n_ask - newcomers then reply[#reply + 1] = 1 end -- a run of one
    for _, word in ipairs(settled[i]) do reply[#reply + 1] = word end
  end
end
for i = 1, #fared do reply[#reply + 1] = fared[i] end
reply[1] = flags
return reply
