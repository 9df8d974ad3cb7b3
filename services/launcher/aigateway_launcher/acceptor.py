"""Several workers on one listening socket, each with as many connections as the others.

The parent opens the socket and hands it down, so that connections wait in it while a worker starts again, and none is
refused or lost. The kernel wakes every worker for each connection, and left alone the first takes all that wait. So
a worker that has more connections than another leaves a new one to the others for a moment. Measured on two cores, the
busiest one's share of 8, 32 and 128 connections that came at once:

| | two workers | four workers |
|---|---|---|
| one socket, first come first served | 74, 81, 73 % | 60, 64, 84 % |
| a socket each (SO_REUSEPORT) | 64, 57, 54 % | 47, 33, 29 % |
| one socket, in turn (this module) | 50, 52, 51 % | 30, 27, 26 % |

With a socket each the connections that wait in the socket of a worker that dies are lost besides. Callers keep their
connections, so a worker that starts again would stay idle beside busy ones: those with more then close one after its
answer now and then, and its client connects anew. What is asked on a connection is its client's business.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway_common import logs

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

YIELD: Final = 0.002
"""Seconds that a worker with more connections leaves a new one to the others; then it takes it, as they may be busy."""
_AT_ONCE: Final = 16
"""Connections that a worker takes in a turn of its event loop: where turns are long, others would wait for seconds."""
CLOSE_SECONDS: Final = 0.05
"""Between two connections that are closed because others have fewer: no storm, even if those others do not accept."""
_PAUSE: Final = 1.0
"""Seconds after which accepting is tried again when the process has no descriptor left."""
_NUMBER: Final = struct.Struct("=q")
_AWAY: Final = 2**40
"""Stands for the connections of a worker that takes none, so that nobody waits for it."""

_log = logs.get("launcher")


class Tally:
    """How many connections each worker has, in memory that all share; each writes its own number alone.

    Args:
        path: The file behind it.
        workers: How many workers there are.
    """

    def __init__(self, path: Path, workers: int) -> None:
        self._workers = workers
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), workers * _NUMBER.size)

    @classmethod
    def make(cls, path: Path, workers: int) -> Tally:
        """A new one, in which no worker takes connections yet."""
        path.write_bytes(_NUMBER.pack(_AWAY) * workers)
        return cls(path, workers)

    def write(self, worker: int, connections: int) -> None:
        """Note what `worker` has."""
        _NUMBER.pack_into(self._memory, worker * _NUMBER.size, connections)

    def away(self, worker: int) -> None:
        """Note that `worker` takes no connections."""
        self.write(worker, _AWAY)

    def fewest(self) -> int:
        """The connections of the worker that has fewest."""
        numbers: list[int] = [_NUMBER.unpack_from(self._memory, at * _NUMBER.size)[0] for at in range(self._workers)]
        return min(numbers)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


@dataclass(frozen=True, slots=True)
class SharedSocket:
    """A listening socket as one of its workers sees it."""

    listener: socket.socket
    tally: Tally
    """What each worker has."""
    worker: int
    """This one's number, from 0 on."""


class Acceptor:
    """Takes one worker's share of the connections; to uvicorn it looks like an `asyncio.Server`.

    Args:
        shared: What the workers share.
        protocol: Makes what serves a connection; it calls `lost` once that has ended.
    """

    def __init__(self, shared: SharedSocket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener, self._tally, self._worker = shared.listener, shared.tally, shared.worker
        self._protocol = protocol
        self._connections = 0
        self._leaving = False
        self._next_close = 0.0
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.TimerHandle | None = None
        self._tally.write(self._worker, 0)
        self._loop.add_reader(self._listener, self._ready)

    def lost(self) -> None:
        """A connection has ended."""
        self._count(-1)

    def crowded(self) -> bool:
        """Whether to close the connection that asks, since another worker has clearly fewer."""
        if self._leaving:
            return False
        fewest, now = self._tally.fewest(), self._loop.time()
        if self._connections <= fewest + max(2, fewest // 8) or now < self._next_close:
            return False
        self._next_close = now + CLOSE_SECONDS
        return True

    def leave(self) -> None:
        """Leave new connections to the other workers, and take only those that none of them does."""
        self._leaving = True
        self._tally.away(self._worker)
        if self._waiting is not None:  # what comes now has not been left to the others yet
            self._waiting.cancel()
            self._waiting = None
            self._loop.add_reader(self._listener, self._ready)

    def close(self) -> None:
        """Take no more connections."""
        self.leave()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait until the connections taken last are open."""
        await asyncio.gather(*self._opening)

    def _ready(self) -> None:
        for _ in range(_AT_ONCE):
            if self._has_more():
                self._pause(YIELD)
                return
            if not self._take():
                return

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._waiting = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._waiting = None
        self._loop.add_reader(self._listener, self._ready)
        self._take()

    def _has_more(self) -> bool:
        """Whether another worker should have the next connection; among many, a few more or less are even enough."""
        fewest = self._tally.fewest()
        return self._leaving or self._connections > fewest + fewest // 16

    def _take(self) -> bool:
        """Take one connection; False when there is none to be had now."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            _log.error("connections cannot be accepted", error=error.strerror)
            self._pause(_PAUSE)
            return False
        connection.setblocking(False)
        self._count(1)
        task = self._loop.create_task(self._open(connection), name="open a connection")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # it went away meanwhile
            connection.close()
            self._count(-1)

    def _count(self, change: int) -> None:
        self._connections += change
        if not self._leaving:
            self._tally.write(self._worker, self._connections)
