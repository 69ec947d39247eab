"""What is looked at: a Redis, an upstream, three gateways that share a limit, and a Prometheus that scrapes them."""

import asyncio
import json
import os
import urllib.request

from processes import free_port
from prometheus import Prometheus, configuration, sixty_times_faster

NAME = "chat-streams"
LIMIT = 16
# No request waits longer; others are turned away.
MAX_WAIT = 15
# The lease of the example.
LEASE = 10

# The third gateway has a user of its own, whose rights a scene takes away.
USER = "third"


class Cluster:
    def __init__(self, processes, programs, examples):
        self.processes, self.programs, self.examples = processes, programs, examples
        self.redis_port = free_port()
        self.ports = [free_port() for _ in range(3)]
        self.addresses = [f"127.0.0.1:{port}" for port in self.ports]
        self.gateways = [None] * 3

    async def start(self):
        await self.start_redis()
        upstream = await self.processes.start(
            "upstream", self.programs.gateway, "--upstream-only", "127.0.0.1:0", says="listening on "
        )
        self.upstream = upstream.said
        for index in range(3):
            await self.start_gateway(index)
        await self.start_prometheus()

    async def start_redis(self):
        """Starts an empty redis-server that saves nothing."""
        user = ["--user", USER, "on", f">{USER}", "~zsem:*", "&zsem:*", "+@all"]
        command = ["redis-server", "--port", self.redis_port, "--bind", "127.0.0.1", "--save", "", *user]
        self.redis = await self.processes.start("redis", *command)
        await eventually("redis-server answers", lambda: self.redis_says("PING", "+PONG"), within=20)

    async def redis_says(self, command, answer):
        """Tells whether Redis gives this answer to a command."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.redis_port)
            writer.write(f"{command}\r\n".encode())
            line = await reader.readline()
            writer.close()
        except OSError:
            return False
        return line.decode().strip() == answer

    async def start_gateway(self, index):
        user = f"{USER}:{USER}@" if index == 2 else ""
        env = {**os.environ, "REDIS_URL": f"redis://{user}127.0.0.1:{self.redis_port}"}
        options = ["--limit", LIMIT, "--per-key", 10_000, "--max-wait", MAX_WAIT, "--name", NAME]
        command = [self.programs.gateway, "--serve", self.addresses[index], "--upstream", self.upstream, *options]
        self.gateways[index] = await self.processes.start(
            f"gateway-{index + 1}", *command, says="listening on ", env=env
        )

    async def start_prometheus(self):
        folder = self.processes.folder
        rules = (self.examples / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(sixty_times_faster(rules))
        config = configuration((self.examples / "prometheus.yml").read_text(), self.addresses)
        (folder / "prometheus.yml").write_text(config)
        port = free_port()
        await self.processes.start(
            "prometheus",
            self.programs.prometheus,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--query.lookback-delta=5s",
        )
        self.prometheus = Prometheus(f"http://127.0.0.1:{port}")

        async def all_are_scraped():
            try:
                return await self.prometheus.value("sum(up)") == len(self.addresses)
            except (OSError, RuntimeError) as error:
                return error  # it listens before it is ready

        await eventually("Prometheus scrapes all gateways", all_are_scraped)

    async def zsem(self, *command):
        """Runs a command of an operator; returns what it prints."""
        url = f"redis://127.0.0.1:{self.redis_port}"
        return await self.processes.run(self.programs.zsem, "--url", url, "--color", "never", *command)

    async def holders(self):
        """Returns the ids of the permits."""
        return [holder["id"] for holder in json.loads(await self.zsem("--json", "show", NAME))["holders"]]

    async def metrics(self, index=0):
        """Returns what Prometheus gets from a gateway."""
        return await asyncio.to_thread(get, f"http://{self.addresses[index]}/metrics")

    async def upstream_serves(self):
        """Returns how many answers the upstream streams now, as it counts them."""
        return json.loads(await asyncio.to_thread(get, f"{self.upstream}/stats"))["now"]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


async def eventually(what, holds, within=60):
    """Waits until `holds` tells so; what it tells last is part of the complaint."""
    for _ in range(within * 5):
        told = await holds()
        if told is True:
            return
        await asyncio.sleep(0.2)
    raise RuntimeError(f"not within {within} s: {what}; at last: {told}")
