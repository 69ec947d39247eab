--- Renewals.
---
--- Reads   sections `i`, `n`; meta `kicked`, and the scores of permits where something is amiss
--- Writes  permits, queue; held, extra, waiting, not_plain
--- Twin    src/store/memory/books.rs
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
