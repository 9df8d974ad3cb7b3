"""The edge's HTTP server: uvicorn inside our own event loop and our own signal handling."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from typing_extensions import override

from aigateway_launcher.acceptor import Acceptor, SharedSocket
from aigateway_launcher.http_protocol import Gate, HttpProtocol
from aigateway_launcher.listener import listen

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Generator, Iterable

_LINGER: Final = 0.5
"""Seconds that a draining server still takes requests on connections whose clients are being told that they end."""
_ACCEPTED_AT_ONCE: Final = 16
"""Connections that a turn of the event loop accepts.

libuv, and so uvloop, accepts one for each listening descriptor (https://github.com/libuv/libuv/pull/3696): with one
descriptor the connections of a busy server would wait for seconds.
"""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has one way to stop, not two.

    Args:
        config: uvicorn's.
        gate: What its connections share.
        shared: The socket that it shares with other workers, if it does.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, shared: SharedSocket | None) -> None:
        super().__init__(config)
        self._gate = gate
        self._shared = shared
        self.acceptor: Acceptor | None = None

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._shared is None:
            await super().startup(sockets)
            return
        await super().startup([])
        self.acceptor = Acceptor(self._shared, self._protocol)
        self._gate.lost, self._gate.crowded = self.acceptor.lost, self.acceptor.crowded
        self.servers.append(cast("asyncio.Server", self.acceptor))

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves one ASGI application on one address.

    Args:
        app: The application.
        host: Where to listen.
        port: 0 takes a free one.
        leaving: Called when the server is about to stop, while it still takes connections.
        gate: The limits of connections and of calls.
        shared: The socket that it shares with other workers, instead of one of its own at `host` and `port`.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        leaving: Callable[[], None] | None = None,
        gate: Gate | None = None,
        shared: SharedSocket | None = None,
    ) -> None:
        self._shared = shared
        self._socket = shared.listener if shared else listen(host, port)
        self._leaving = leaving
        self._gate = gate or Gate()
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            loop="none",
            http=cast("type[asyncio.Protocol]", partial(HttpProtocol, gate=self._gate)),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            backlog=2048,
        )
        self._server = _Server(config, self._gate, shared)
        self._task: asyncio.Task[None] | None = None

    @property
    def connections(self) -> Collection[object]:
        """Those that are open."""
        return self._server.server_state.connections

    async def start(self) -> None:
        """Accept connections."""
        more = 0 if self._shared else _ACCEPTED_AT_ONCE - 1
        sockets = [self._socket, *(self._socket.dup() for _ in range(more))]
        self._task = asyncio.create_task(self._server.serve(sockets=sockets))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the HTTP server ended before it began")
            await asyncio.sleep(0.005)  # uvicorn has no event for this

    async def drain(self, grace: float) -> None:
        """Stop accepting, let running answers finish within `grace` seconds, and close.

        Where there are connections, their clients are first told that they end, and new ones still taken for a moment:
        a connection that is closed while a request travels on it is a failed call.
        """
        if self._task is None:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        self._gate.leaving = True
        if self._leaving is not None:
            self._leaving()
        if self._server.acceptor is not None:
            self._server.acceptor.leave()
        if connections := self._server.server_state.connections:
            for connection in cast("Iterable[HttpProtocol]", connections):
                connection.leave()
            await asyncio.sleep(min(_LINGER, grace))
        self._server.config.timeout_graceful_shutdown = max(1, int(end - loop.time()))
        self._server.should_exit = True
        await self._task
        if self._gate.load is not None:
            self._gate.load.stop()
