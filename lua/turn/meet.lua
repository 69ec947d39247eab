--- Meets the server: compares the server that runs this turn with the one that meta remembers.
---
--- A new primary may have been promoted before the last writes reached it. Then meta is older than what
--- clients were told, and permits that they hold are missing. So another server makes a new incarnation, under
--- which permits are put back. A caller that has seen a number of this incarnation that meta does not know
--- shows the same.
---
--- A grace follows where a client wants one: nothing new is given out, while all clients put their permits
--- back. It counts from this turn. For a name without meta it counts from the start of the server, which may
--- have come back empty. It is the longest that a client has wanted since the server before that one.
---
--- Reads   section MEET; is_behind; meta `server`; all permits where meta is behind
--- Writes  incarnation, last, extra, kicked, grace, grace_ends, kept_server
--- Twin    src/store/memory/turn/meet.rs

-- When the grace ends that is under way; 0 without one, and where no step needs to know.
local grace_ends = 0
-- What finish.lua writes to meta `server`.
local kept_server
local meets = ARGV[at] == Section.MEET
if meets or is_behind or grace == 1 and now_ms then
  -- The server; since when a grace counts; the longest that was wanted; when it ends.
  local server, since, longest, ends = 0, 0, 0, 0
  local kept = incarnation > 0 and call('HGET', meta, 'server')
  if kept then
    server, since, longest, ends = struct.unpack(Server.FORMAT, kept)
  end
  if meets or is_behind and incarnation > 0 then
    local id, known, wanted = server, incarnation, 0
    if meets then
      known, wanted, id = ARGV[at + 1] + 0, ARGV[at + 2] + 0, ARGV[at + 3] + 0
      if not kept and id ~= 0 then since = now_ms - ARGV[at + 4] end
      at = at + 5
      if id ~= server and id ~= 0 and server ~= 0 then
        -- The caller may have asked another server, where a proxy stands between.
        --- @include "server"
      end
      if id == 0 then id = server end
    end
    local other = id ~= server and server ~= 0
    if incarnation > 0 and (other or is_behind and known >= incarnation) then
      -- The numbers that were lost may be of a clock that was ahead of this one.
      incarnation = math.max(now + Span.CLOCKS_DIFFER * 1000, last + 1)
      last, changed, before = incarnation, true, incarnation
      since, ends, longest = now_ms, now_ms + math.max(longest, wanted), wanted
      -- If meta alone is older, as after a slot move that was given up, `extra` is not that of the permits.
      if is_behind and held > 0 then
        --- @include "recount"
      end
    else
      longest = math.max(longest, wanted)
      ends = math.max(ends, since + longest)
    end
    local keeps = struct.pack(Server.FORMAT, id, since, longest, ends)
    if keeps ~= kept then
      kept_server, changed = keeps, true
    end
  end
  if ends > now_ms then
    grace_ends = ends
    if ends > needed_until then needed_until = ends end
  end
  local under_way = ends > now_ms and 1 or 0
  if under_way ~= grace then
    grace, changed = under_way, true
  end
end
