"""The processes of a look: each is started here, and each has ended when the look ends."""

import asyncio
import signal
import socket


class Processes:
    """Starts processes, and ends all that still run when its `with` block ends."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for process in reversed(self.started):
            await process.kill()

    async def start(self, name, *command, says=None, env=None):
        """Starts a process, and waits for the line that begins with `says`. What it writes lies in `NAME.log`."""
        path = self.folder / f"{name}.log"
        with path.open("ab") as log:
            begin = log.tell()
            child = await asyncio.create_subprocess_exec(
                *map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        process = Process(name, child)
        self.started.append(process)
        if says:
            process.said = await self._wait_for_line(process, path, begin, says)
        return process

    async def _wait_for_line(self, process, path, begin, says):
        for _ in range(600):
            text = path.read_bytes()[begin:].decode(errors="replace")
            for line in text.splitlines(keepends=True):
                if line.startswith(says) and line.endswith("\n"):
                    return line.removeprefix(says).strip()
            if process.child.returncode is not None:
                break
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{process.name} did not say `{says}`: {text}")

    async def run(self, *command):
        """Runs a command to its end; returns its standard output."""
        child = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await child.communicate()
        if child.returncode != 0:
            raise RuntimeError(f"{command} ended with {child.returncode}: {out.decode()}{err.decode()}")
        return out.decode()


class Process:
    """A process that was started here."""

    def __init__(self, name, child):
        self.name, self.child, self.said = name, child, None

    def freeze(self):
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.child.send_signal(signal.SIGCONT)

    async def kill(self):
        if self.child.returncode is None:
            self.child.kill()
        await self.child.wait()


def free_port():
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
