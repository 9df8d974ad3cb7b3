"""`/live` and `/ready` beside `/metrics`: probes for who cannot show a client certificate, as Kubernetes cannot.

They say what the gRPC health service says, and nothing else. The answers come from the event loop that serves calls, so
one that is stuck is not alive. Not the edge's probes, which its callers see.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ANSWER_SECONDS: Final = 2.0
"""How long the event loop may take; less than the 3 seconds after which Kubernetes is told to give up."""


class Probes:
    """Asks `loop` whether it runs, and there whether it is `ready`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], bool]) -> None:
        self._loop = loop
        self._ready = ready

    def before(self, rest: WSGIApplication) -> WSGIApplication:
        """An application that answers the probes, and leaves all else to `rest`."""

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            match environ["PATH_INFO"]:
                case "/live":
                    return _told(start, good=self._asked() is not None)
                case "/ready":
                    return _told(start, good=self._asked() is True)
                case _:
                    return rest(environ, start)

        return answer

    def _asked(self) -> bool | None:
        """What the loop says of its being ready; None when it says nothing."""
        answer: Future[bool] = Future()
        try:
            self._loop.call_soon_threadsafe(lambda: answer.set_result(self._ready()))
            return answer.result(ANSWER_SECONDS)
        except (RuntimeError, TimeoutError):  # it is closed, or stuck
            return None


def _told(start: StartResponse, *, good: bool) -> Iterable[bytes]:
    start("200 OK" if good else "503 Service Unavailable", [("content-type", "text/plain")])
    return [b"ok\n" if good else b"unavailable\n"]
