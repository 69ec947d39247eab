--- Newcomers: granted, queued or refused.
---
--- Reads   sections `w`, `a`; asks that found nothing
--- Writes  permits, queue, clients; held, extra, waiting, last, head, fared, settled
--- Twin    src/store/memory/books.rs
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
