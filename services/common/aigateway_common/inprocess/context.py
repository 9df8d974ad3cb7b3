"""What a servicer is handed beside the request: grpc.aio's ServicerContext for a call in process.

It follows grpc.aio down to its quirks: `cancelled` and `done` speak of the status that the server has set or sent, so a
handler learns from CancelledError, and not from them, that its client is gone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc import aio
from typing_extensions import override

from aigateway_common.inprocess import metadata
from aigateway_common.inprocess.rpc import Outcome, Rpc, StreamRpc, run_callback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_OK = grpc.StatusCode.OK
_UNKNOWN = grpc.StatusCode.UNKNOWN


class Context(aio.ServicerContext[Any, Any]):
    """The server's view of one call."""

    __slots__ = ("_callbacks", "_code", "_details", "_rpc", "_trailing", "aborted")

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: metadata.Pairs = ()
        self._callbacks: list[Callable[[], None]] | None = None
        self.aborted: aio.AbortError | None = None
        """What `abort` raised; the status is sent, whatever the handler does with it."""

    @override
    async def write(self, message: Any) -> None:
        rpc = self._rpc
        if rpc.answered or rpc.outcome is not None:
            self._check_open()
        if not isinstance(rpc, StreamRpc):
            raise aio.UsageError("a call with one response has no stream to write to")
        if rpc.put(message):
            await rpc.until_read()

    def putter(self) -> Callable[[Any], bool]:
        """What writes a message without waiting, and answers whether there is room for more."""
        rpc = self._rpc
        if not isinstance(rpc, StreamRpc):
            raise aio.UsageError("a call with one response has no stream to write to")
        write = rpc.put

        def put(message: Any) -> bool:
            if rpc.answered or rpc.outcome is not None:
                self._check_open()
            return not write(message)

        return put

    @override
    async def read(self) -> Any:
        raise aio.UsageError("there is no client streaming in process")

    @override
    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._check_open()
        if self._rpc.initial is not None:
            raise aio.UsageError("Send initial metadata failed: already sent")
        self._rpc.begin(metadata.pairs(initial_metadata))

    @override
    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        if self.aborted is not None:
            raise aio.UsageError("Abort already called!")
        if not isinstance(trailing_metadata, tuple):
            raise TypeError(f"trailing_metadata must be a tuple, not {type(trailing_metadata).__name__}")
        if trailing_metadata or not self._trailing:
            self._trailing = metadata.pairs(trailing_metadata)
        if details or not self._details:
            self._details = details
        self._code = _UNKNOWN if code is _OK else code
        self.aborted = aio.AbortError("Locally aborted.")
        self._rpc.answer(Outcome(self._code, self._details, self._trailing))
        raise self.aborted

    @override
    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))

    @override
    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = metadata.pairs(trailing_metadata)

    @override
    def trailing_metadata(self) -> Any:
        return self._trailing

    @override
    def invocation_metadata(self) -> Any:
        return self._rpc.metadata

    @override
    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    @override
    def code(self) -> Any:
        return self._code

    @override
    def set_details(self, details: str) -> None:
        self._details = details

    @override
    def details(self) -> str:
        return self._details

    @override
    def time_remaining(self) -> Any:
        return self._rpc.time_remaining()

    @override
    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(partial(callback, self))

    @override
    def cancelled(self) -> bool:
        return self._code is grpc.StatusCode.CANCELLED

    @override
    def done(self) -> bool:
        return self._rpc.answered

    @override
    def peer(self) -> str:
        return "inprocess"

    @override
    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    @override
    def peer_identity_key(self) -> str | None:
        return None

    @override
    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    @override
    def set_compression(self, compression: grpc.Compression) -> None:
        """There is nothing to compress."""

    @override
    def disable_next_message_compression(self) -> None:
        """There is nothing to compress."""

    def finish(self) -> None:
        """End the call with the status set so far."""
        self._rpc.answer(Outcome(self._code or _OK, self._details, self._trailing))

    def respond(self, response: object) -> None:
        """End a unary call. A status other than OK discards the response, as on the wire."""
        code = self._code
        if code is None or code is _OK:
            if response is None:
                raise TypeError("the handler returned None, not a message")
            self._rpc.message = response
        self.finish()

    def fail(self, error: Exception) -> None:
        """End the call with what its handler raised: UNKNOWN, unless a code was set before."""
        if not self._rpc.answered:
            code = _UNKNOWN if self._code is None or self._code is _OK else self._code
            self._rpc.answer(Outcome(code, f"Unexpected {type(error)}: {error}", self._trailing))

    def run_callbacks(self) -> None:
        """The handler has ended: say so."""
        for callback in self._callbacks or ():
            run_callback(callback)

    def _check_open(self) -> None:
        if self.aborted is not None:
            raise self.aborted
        if self._rpc.answered:
            raise aio.UsageError("RPC already finished.")
        if self._rpc.outcome is not None:
            raise aio.InternalError("the call has ended")
