--- The turn: one atomic call with all that a client has to say about one semaphore.
---
--- Twin    src/store/memory/turn/mod.rs
---
--- # Arguments
---
--- 1 client, 2 limit, 3 seen (the highest number that the client knows), then sections in this
--- order. The first four and GRANTED_UNDER come at most once, the others any number of times.
---
---   Section.EPOCH          epoch: how many turns of this client had no answer; left out for 0
---   Section.MEET           incarnation that the client knows, ms of the grace that it wants, id of the server
---                          (0: not known), ms since its start: the first turn of the client on its connection,
---                          so the server may be another one
---   Section.DECLARE        label: keeps the limit and the label of the client for `inspect`
---   Section.RELEASE_LIGHT  count, token, ids: no permit of these has a lower token; 0: not known,
---                          or a lease may have ended
---   Section.RELEASE_HEAVY  count, ids
---   Section.CANCEL         count, ids: of permits and of waiters
---   Section.GRANTED_UNDER  incarnation: under which the renewed permits were granted
---   Section.RENEW          count, ms, ids
---   Section.ASK            count, (id, ticket, when_full) for each waiter; ticket 0: not known
---   Section.ADMIT_PLAIN    count, ids: newcomers for one unit and the default lease that wait
---   Section.ADMIT_OTHER    count, when_full, units, ms, ids: other newcomers of a kind
---
--- `when_full` says what happens to a newcomer that does not fit: WhenFull.WAIT, WhenFull.REFUSE,
--- or a number: it waits, unless at least this many wait already.
---
--- # Reply
---
--- To a stale turn: Flag.NONE, epoch. A turn is stale if a newer one of this client has run; it does
--- nothing. To any other turn, a flat list: the sum of the flags, incarnation, units in use, waiters, last
--- number; then the values of each flag, in this order
---
---   Flag.OVERRIDDEN  limit: the override
---   Flag.PUT_BACK    nothing: waiters that were asked about had been lost
---   Flag.MORE        nothing: work is left for another turn
---   Flag.EARLIEST    ms: until the earliest deadline, or less, or until the grace ends; for the owner of
---                    the head
---   Flag.MISSING     count, indices: releases that found nothing
---   Flag.EXCEPTIONS  count, (index, RenewalException.*): renewals that found no permit or a
---                    kicked one
---   Flag.OTHERS      count, (id, token): other waiters of the caller that left the queue; token 0:
---                    too large
---   Flag.ALL_GRANTED nothing: nobody was asked about, and all newcomers are granted, with the last
---                    numbers in their order; no outcomes follow
---
--- then the outcome of each ask
---
---   Outcome.GRANTED        token
---   Outcome.FOUND_GRANTED  token: an earlier turn granted it
---   Outcome.QUEUED         ticket, place
---   Outcome.REFUSED, Outcome.KICKED, Outcome.TOO_LARGE
---
--- then the newcomers in runs. In a run all outcomes are the same, and their numbers rise by one: count,
--- outcome of the first. Indices count from 1, places from 0.
---
--- # Invariants
---
--- - Units in use never exceed the limit.
--- - A grant goes to the lowest ticket.
--- - Each number given out, token or ticket, is above all before it.
--- - Nothing new is granted during a grace.
--- - After each single write the keys are in a legal state: Redis does not roll a script back.
---
--- # Implementation
---
--- Redis runs nothing else during a turn, so the cost of a turn depends only on what it says. Each call
--- makes each Lua function again, which costs as much as a command. So the steps of the short ways have no
--- functions. A step makes the tables that only it needs. Ids come in runs of one kind, so that no id has to be
--- parsed. Redis formats each number that it gets, so numbers are passed as texts that are made once.
---
--- `at` is the place in ARGV where the next section begins. Each step moves it past its own.

--- @include "keys"
--- @include "state"

--- @include "turn/begin"
--- @include "turn/meet"
--- @include "turn/meta"
--- @include "turn/client"
--- @include "turn/release"

-- The short ways: nobody waits, and nothing is left to do, or only newcomers of one unit are left, and all fit.
-- A turn that may be from before a loss of data takes the long way, as all do that admit during a grace. Both
-- ways end with the same steps, and a short way leaves out only what would do nothing.
if
  waiting == 0
  and (
    at > said and not says_nothing
    or ARGV[at] == Section.ADMIT_PLAIN
      and at + 1 + ARGV[at + 1] == said
      and grace == 0
      and held + extra + ARGV[at + 1] <= limit
      and (held == 0 or seen == 0 or seen >= incarnation)
  )
then
  if at < said then
    --- @include "turn/admit_plain"
  end
else
  --- @include "prelude"
  --- @include "turn/permits"
  --- @include "turn/prune"
  --- @include "turn/remove"
  --- @include "turn/renew"
  --- @include "turn/ask_newcomers"
  --- @include "turn/ask"
  --- @include "turn/serve"
  --- @include "turn/admit"
end

--- @include "turn/finish"
--- @include "turn/reply"
