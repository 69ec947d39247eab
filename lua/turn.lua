--- @include "prelude"
--- @include "clock"
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

--- @include "turn/begin"

--- @include "turn/meta"

--- @include "turn/client"

--- @include "turn/permits"

--- @include "turn/prune"

--- @include "turn/remove"

--- @include "turn/renew"

--- @include "turn/late_turn"

--- @include "turn/ask"

--- @include "turn/serve"

--- @include "turn/admit"

--- @include "turn/finish"

--- @include "turn/reply"
