"""The floor: the same server, the same upstream client, and nothing in between.

Run as `python -m bench.floor UPSTREAM PORT`. What the gateway costs more than this is the gateway's own; no change to
it can make it cost less.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvicorn
from aigateway_providers.adapter import CallContext
from aigateway_providers.settings import ProviderSettings
from aigateway_providers.upstream import Upstream

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_PATH = "/v1/chat/completions"


class Floor:
    """An ASGI application that passes every body on and every answer back."""

    def __init__(self, url: str) -> None:
        self._settings = ProviderSettings("floor", "openai", url)
        self._upstream: Upstream | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request."""
        if self._upstream is None:
            self._upstream = Upstream(self._settings, {"authorization": "Bearer bench"})
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if b'"stream": true' in body:
            await self._stream(self._upstream, body, send)
        else:
            await self._whole(self._upstream, body, send)

    async def _whole(self, upstream: Upstream, body: bytes, send: Send) -> None:
        status, _, answer = await upstream.fetch("POST", _PATH, context=CallContext(), body=body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _stream(self, upstream: Upstream, body: bytes, send: Send) -> None:
        async with await upstream.send("POST", _PATH, context=CallContext(), body=body) as answer:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        Floor(sys.argv[1]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
        lifespan="off",
    )
