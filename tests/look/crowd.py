"""Clients of the gateways, which count what came of their requests in the words of the layer's label `outcome`."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

# The stand-in upstream says a token each 20 ms, so this is an answer without an end.
ENDLESS = 1_000_000_000


class Crowd:
    """Counts what came of each request, for all clients together."""

    def __init__(self):
        self.counts = Counter()

    @asynccontextmanager
    async def clients(self, addresses, number, tokens, every=0.0, finish=False):
        """Lets clients chat again and again; one comes each `every` seconds, by turns at each address.

        At the end of the block they go: after their answer if they `finish`, else in the middle of it.
        """
        gone = asyncio.Event()

        async def client(index):
            await asyncio.sleep(index * every)
            while not gone.is_set():
                self.counts[await chat(addresses[index % len(addresses)], tokens)] += 1
                await asyncio.sleep(0.1)

        tasks = [asyncio.create_task(client(index)) for index in range(number)]
        try:
            yield
        finally:
            gone.set()
            for task in tasks if not finish else ():
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended

    @asynccontextmanager
    async def streams(self, addresses):
        """Asks for an endless answer at each address, and hangs up at the end of the block."""
        streams = [Stream(self, address) for address in addresses]
        try:
            for stream in streams:
                await stream.ask()
            yield streams
        finally:
            for stream in streams:
                stream.hang_up()


class Stream:
    """A client that wants an answer without an end."""

    def __init__(self, crowd, address):
        self.crowd, self.address, self.task, self.begun = crowd, address, None, asyncio.Event()

    async def ask(self):
        reader, self.writer = await send(self.address, ENDLESS)
        self.task = asyncio.create_task(self._read(reader))

    async def _read(self, reader):
        try:
            if await read_status(reader) == 200:
                await reader.readuntil(b"delta")
                self.begun.set()
                while await reader.read(65536):
                    pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # its gateway was killed

    def hang_up(self):
        """Goes: with a permit if the answer has begun, otherwise as one who waited."""
        if self.task is not None:
            self.task.cancel()
            self.task = None
            self.writer.close()
            self.crowd.counts["permit" if self.begun.is_set() else "cancelled"] += 1


async def chat(address, tokens):
    """Chats once; returns what came of it."""
    try:
        reader, writer = await send(address, tokens)
    except OSError:
        return "unreachable"
    try:
        status = await read_status(reader)
        body = await reader.read(-1)
    except OSError:
        return "cut"
    finally:
        writer.close()
    if status in (429, 503):
        return "rejected"
    return "permit" if status == 200 and b'"last":true' in body else "cut"


async def send(address, tokens):
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"max_tokens": tokens}).encode()
    head = f"POST /chat HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def read_status(reader):
    """Returns the status of the answer, or none if the connection ended before it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    return int(head.split(b" ", 2)[1])
