--- Renews permits, and puts back those that a loss of data has removed.
---
--- Reads   sections GRANTED_UNDER, RENEW; kicked; scores of permits, where one may be kicked
---         or missing
--- Writes  permits, queue; held, extra, waiting, exceptions
--- Twin    src/store/memory/turn/renew.rs

-- Pairs of an index and a code, and how many renewals came before this section.
local renewals, granted_under = 0, incarnation
if ARGV[at] == Section.GRANTED_UNDER then
  granted_under = ARGV[at + 1] + 0
  at = at + 2
end
if ARGV[at] == Section.RENEW then prune() end
while ARGV[at] == Section.RENEW do
  local count, ms, first = ARGV[at + 1] + 0, ARGV[at + 2] + 0, at + 3
  local text = deadline_in(ms)
  for from = 1, count, Bound.CHUNK do
    local to = min(from + Bound.CHUNK - 1, count)
    local ids, scores, pushed = { unpack(ARGV, first + from - 1, first + to - 1) }, nil, {}
    -- To read the scores costs more than the renewals, so they are not read if no permit can be kicked. With
    -- `more`, a kicked permit may have expired and still be there.
    if kicked > now_ms or more then scores = call('ZMSCORE', permits, unpack(ids)) end
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
          -- Put back only if another incarnation granted it. If this one did, the permit has ended for good.
          local units = units_of(id)
          if granted_under ~= incarnation and held + extra + units <= limit then
            code = RenewalException.PUT_BACK
            -- A late turn may have queued it. An id is never in the queue and among the permits.
            waiting = waiting - call('ZREM', queue, id)
            add(ids, k, k, units, ms)
          else
            code = RenewalException.GONE
          end
        elseif is_kicked(score) then
          code = RenewalException.KICKED
        end
        if code ~= 0 then
          exceptions = exceptions or {}
          exceptions[#exceptions + 1], exceptions[#exceptions + 2] = renewals + from + k - 1, code
        end
      end
      flush()
    end
  end
  renewals, at = renewals + count, first + count
end
