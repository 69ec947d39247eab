"""The scenes of a look: a load, an incident, and which alerts fire then.

Prometheus evaluates rules in which a minute is a second, so an alert that takes five minutes takes five seconds here.
"""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cluster import LEASE, LIMIT, NAME, USER, eventually
from crowd import Crowd

# The longest window of the rules, and the longest `for`, after which every alert that calm load raises has fired.
LONGEST_ALERT = 20

OF_NAME = f'{{semaphore="{NAME}"}}'


@dataclass
class Scene:
    title: str
    begin: float
    end: float = 0.0


class Scenes:
    """Plays the scenes, in order, and notes when each was."""

    def __init__(self, cluster, say):
        self.cluster, self.say = cluster, say
        self.prometheus, self.crowd = cluster.prometheus, Crowd()
        self.played, self.fired = [], set()

    async def play(self):
        scenes = {
            "calm": self.calm,
            "sums": self.sums_agree,
            "surge": self.surge,
            "paused": self.pause,
            "stuck": self.stuck,
            "no wake-ups": self.no_wake_ups,
            "kicked": self.kick,
            "frozen": self.freeze,
            "crash": self.crash,
            "outage": self.outage,
            "over": self.over,
        }
        for title, scene in scenes.items():
            begin = time.time()
            await scene()
            self.played.append(Scene(title, begin, time.time()))

    async def calm(self):
        """Fewer clients than units."""
        async with self.crowd.clients(self.cluster.addresses, 9, tokens=20, finish=True):
            for _ in range(LONGEST_ALERT):
                await asyncio.sleep(1)
                firing = await self.prometheus.firing()
                if firing:
                    raise RuntimeError(f"alerts fire under calm load: {firing}")
        self.say(f"no alert fires under {LONGEST_ALERT} s of calm load")

    async def sums_agree(self):
        """Endless answers, of which all sides count the same number."""
        addresses, crowd = self.cluster.addresses, self.crowd
        async with crowd.streams(spread(addresses, 11)) as eleven:
            await self.sums(held=11, queue=0)
            async with crowd.streams(spread(addresses, 5)):
                await self.sums(held=LIMIT, queue=0)
                async with crowd.streams(spread(addresses, 7)) as waiting:
                    await self.sums(held=LIMIT, queue=7)
                    for stream in waiting[:3]:
                        stream.hang_up()
                    await self.sums(held=LIMIT, queue=4)
            await self.sums(held=11, queue=0)
            for stream in eleven[:8]:
                stream.hang_up()
            await self.sums(held=3, queue=0)
        await self.sums(held=0, queue=0)
        await self.totals()

    async def sums(self, held, queue):
        """Waits until Prometheus and the upstream tell that as many are held, and that as many wait.

        A process tells the limit only while it holds or waits.
        """
        limit = LIMIT if held or queue else 0
        wanted = {
            f"sum(zsem_held_units{OF_NAME})": held,
            f"max(zsem_in_use_units{OF_NAME})": held,
            f"max(zsem_limit_units{OF_NAME})": limit,
            f"sum(zsem_waiters{OF_NAME})": queue,
            f"max(zsem_queue_length{OF_NAME})": queue,
        }

        async def agree():
            found = {expression: await self.prometheus.value(expression) for expression in wanted}
            served = await self.cluster.upstream_serves()
            return (found, served) == (wanted, held) or (found, f"the upstream serves {served}")

        await eventually(f"{held} held, {queue} wait", agree, within=12)
        self.say(f"held by all instances = in use = served by the upstream = {held}; {queue} wait")

    async def totals(self):
        """Waits until all requests are counted as the crowd has counted them, to the last one."""
        counted = dict(self.crowd.counts)
        totals = f"sum by (outcome) (zsem_requests_total{OF_NAME}) > 0"

        async def agree():
            found = {labels["outcome"]: int(value) for labels, value in await self.prometheus.query(totals)}
            return found == counted or found

        await eventually(f"requests are {counted}", agree, within=12)
        self.say(f"requests as the crowd counted them: {counted}")

    async def surge(self):
        """More clients come each second."""
        async with self.crowd.clients(self.cluster.addresses, 300, tokens=100, every=0.12):
            await self.fire("SemaphoreQueueGrows", "SemaphoreWaitsLong", "SemaphoreRejects")

    async def pause(self):
        """An operator pauses the semaphore, and forgets that for a while. One gateway is idle meanwhile."""
        async with self.crowd.clients(self.cluster.addresses[1:], 24, tokens=20):
            await self.cluster.zsem("pause", NAME)
            await self.fire("SemaphorePaused")
            await self.cluster.zsem("resume", NAME)

    async def stuck(self):
        """All units are held, and no holder ends."""
        addresses = self.cluster.addresses
        async with self.crowd.streams(spread(addresses, LIMIT)) as streams:
            await begun(streams)
            async with self.crowd.clients(addresses, 6, tokens=20, every=1.0):
                await self.fire("SemaphoreStuck")

    async def no_wake_ups(self):
        """The user of one gateway lacks the right to publish, so those whom its turns grant hear nothing."""
        async with self.crowd.clients(self.cluster.addresses, 40, tokens=20):
            await self.may(USER, "-publish")
            await self.fire("SemaphoreWakeUpsMissed")
            await self.may(USER, "+publish")

    async def may(self, user, right):
        assert await self.cluster.redis_says(f"ACL SETUSER {user} {right}", "+OK"), right

    async def kick(self):
        """An operator kicks holders, which raises no alert about lost permits."""
        async with self.crowd.streams(spread(self.cluster.addresses, 3)) as streams:
            await begun(streams)
            await self.cluster.zsem("kick", NAME, *await self.cluster.holders(), "--yes")
            await self.lost("kicked", 3)
            if "SemaphorePermitsLost" in await self.prometheus.firing():
                raise RuntimeError("an operator's kick raises an alert")

    async def freeze(self):
        """A gateway stands still for longer than a lease."""
        async with self.crowd.streams([self.cluster.addresses[1]] * 4) as streams:
            await begun(streams)
            self.cluster.gateways[1].freeze()

            async def all_have_expired():
                return await self.cluster.holders() == []

            await eventually("the leases of a frozen gateway end", all_have_expired)
            self.cluster.gateways[1].thaw()
            await self.lost("renewal_timeout", 4)

    async def crash(self):
        """A gateway is killed, and others get its units when its leases end."""
        first, *others = self.cluster.addresses
        async with self.crowd.streams([first] * 5) as lost, self.crowd.streams(spread(others, 11)) as held:
            await begun([*lost, *held])
            async with self.crowd.streams(spread(others, 4)) as waiting:
                await self.value_becomes(f"max(zsem_queue_length{OF_NAME})", 4)
                await self.cluster.gateways[0].kill()
                await begun(waiting, within=2 * LEASE)
                await self.sums(held=15, queue=0)
                await self.cluster.start_gateway(0)

    async def outage(self):
        """Redis stands still for longer than a lease, dies, and comes back empty."""
        addresses = self.cluster.addresses
        async with self.crowd.streams(spread(addresses, 6)) as streams:
            await begun(streams)
            async with self.crowd.clients(addresses, 12, tokens=20):
                self.cluster.redis.freeze()
                await self.fire("SemaphoreOutage", "SemaphoreDisconnected", "SemaphorePermitsLost")
                await self.cluster.redis.kill()
                await self.cluster.start_redis()
                await self.fire("SemaphoreDataLost")

    async def over(self):
        """Nobody is left."""

        async def is_quiet():
            firing = await self.prometheus.firing()
            return not firing or firing

        await eventually("all alerts end", is_quiet)
        self.say("all alerts have ended")

    async def fire(self, *alerts):
        """Waits until each of the alerts has fired."""
        missing = set(alerts)

        async def have_fired():
            missing.difference_update(await self.prometheus.firing())
            return not missing or missing

        await eventually("the alerts fire", have_fired, within=120)
        self.fired.update(alerts)
        self.say(f"fires: {', '.join(alerts)}")

    async def lost(self, reason, wanted):
        """Waits until as many permits were lost for a reason."""
        await self.value_becomes(f'sum(zsem_lost_total{{semaphore="{NAME}", reason="{reason}"}})', wanted)

    async def value_becomes(self, expression, wanted):
        async def is_so():
            found = await self.prometheus.value(expression)
            return found == wanted or found

        await eventually(f"{expression} is {wanted}", is_so)
        self.say(f"{expression} is {wanted}")


def spread(addresses, number):
    """Returns as many addresses, by turns."""
    return [addresses[index % len(addresses)] for index in range(number)]


async def begun(streams, within=30):
    async with asyncio.timeout(within):
        for stream in streams:
            await stream.begun.wait()
