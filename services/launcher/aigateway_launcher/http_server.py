"""The edge's HTTP server: uvicorn inside our own event loop and our own signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from aigateway_common.settings import ConfigurationError, Problem
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Generator


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has one way to stop, not two."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves one ASGI application on one address."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._socket = listen(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            loop="none",
            http="httptools",
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
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the HTTP server ended before it began")
            await asyncio.sleep(0.005)  # uvicorn has no event for this

    async def drain(self, grace: float) -> None:
        """Stop accepting, let running answers finish within `grace` seconds, and close."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, int(grace))
        self._server.should_exit = True
        await self._task


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigurationError: The address cannot be had; says why and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        hint = "; another program has it: choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError([Problem(f"{host}:{port}", f"cannot listen: {error.strerror}{hint}")]) from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener
