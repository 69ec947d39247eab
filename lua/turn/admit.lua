--- Admits newcomers: each is granted, queued, refused or found too large. During a grace none is granted.
---
--- Reads   sections ADMIT_PLAIN, ADMIT_OTHER; asks with the outcome 'new'
--- Writes  permits, queue, clients; held, extra, waiting, last, head, runs, outcomes
--- Twin    src/store/memory/turn/admit.rs

-- Runs of newcomers with the same outcome, in the form of the reply.
runs = {}
if n_ask > 0 or at <= #ARGV then
  -- New waiters as arguments of ZADD.
  local entering = nil
  -- Admits `count` newcomers of a kind, the ids from `list[first]` on.
  local function enter(list, first, count, when_full, units, ms)
    local to, run = first + count - 1, #runs
    if limit > 0 and units > limit then
      runs[run + 1], runs[run + 2] = count, Outcome.TOO_LARGE
      return
    end
    if waiting == 0 and grace_ends == 0 then
      if held + extra + units * count > limit then prune() end
      local fits = min(count, max(0, floor((limit - held - extra) / units)))
      if fits > 0 then
        last = max(last, now - 1)
        runs[run + 1], runs[run + 2], runs[run + 3] = fits, Outcome.GRANTED, last + 1
        run = run + 3
        add(list, first, first + fits - 1, units, ms)
        last, first = last + fits, first + fits
      end
    end
    local queued = to - first + 1
    if when_full == WhenFull.REFUSE then
      queued = 0
    elseif when_full ~= WhenFull.WAIT then
      queued = max(0, min(queued, when_full - waiting))
    end
    if queued > 0 then
      last = max(last, now - 1)
      runs[run + 1], runs[run + 2] = queued, Outcome.QUEUED
      runs[run + 3], runs[run + 4] = last + 1, waiting
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
    if first <= to then runs[run + 1], runs[run + 2] = to - first + 1, Outcome.REFUSED end
  end
  for i = 1, n_ask do
    if outcomes[i] == 'new' then
      local id = ARGV[asks + 3 * i - 2]
      enter({ id }, 1, 1, ARGV[asks + 3 * i], units_of(id), lease_of(id))
      outcomes[i] = { unpack(runs, 2) }
      runs = {}
    end
  end
  while at <= #ARGV do
    local count, first = ARGV[at + 1] + 0, at + 2
    local when_full, units, ms = WhenFull.WAIT, 1, Span.DEFAULT_LEASE
    if ARGV[at] == Section.ADMIT_OTHER then
      when_full, units, ms = ARGV[first], ARGV[first + 1] + 0, ARGV[first + 2] + 0
      first = first + 3
    end
    enter(ARGV, first, count, when_full, units, ms)
    at = first + count
  end
  -- A client that waits counts as alive for Span.ALIVE. This is written when a third of it is over.
  if
    (n_ask > 0 or entering)
    and (call('ZSCORE', clients, me) or 0) + 0 < now_ms + Span.ALIVE * 2 / 3
  then
    -- Before the waiters: one whose client does not count as alive may leave the queue.
    alive_until, new_clients = nil, true
    needed_until = max(needed_until, now_ms + Span.ALIVE)
    call('ZADD', clients, 'GT', format(WHOLE, now_ms + Span.ALIVE), me)
  end
  if entering then
    for from = 1, #entering, 2 * Bound.CHUNK do
      call('ZADD', queue, unpack(entering, from, min(from + 2 * Bound.CHUNK - 1, #entering)))
    end
  end
end

flush()
