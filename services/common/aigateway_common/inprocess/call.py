"""The client's view of a call: what a stub's method returns."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from typing_extensions import override

from aigateway_common.inprocess import metadata
from aigateway_common.inprocess.rpc import wake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from aigateway_common.inprocess.rpc import Rpc, StreamRpc

_CANCELLED = grpc.StatusCode.CANCELLED
_LOCALLY = "Locally cancelled by application!"


class _Style(enum.Enum):
    ITERATION = enum.auto()
    READS = enum.auto()


class _Call(aio.Call):
    """What both kinds of call have."""

    __slots__ = ("_rpc",)
    _rpc: Rpc

    @override
    def cancel(self) -> bool:
        return self._rpc.terminate(_CANCELLED, _LOCALLY, locally=True)

    @override
    def cancelled(self) -> bool:
        outcome = self._rpc.outcome
        return outcome is not None and outcome.code is _CANCELLED

    @override
    def done(self) -> bool:
        return self._rpc.outcome is not None

    @override
    def time_remaining(self) -> float | None:
        return self._rpc.time_remaining()

    @override
    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._rpc.outcome is not None:
            callback(self)
            return
        if self._rpc.callbacks is None:
            self._rpc.callbacks = []
        self._rpc.callbacks.append(partial(callback, self))

    @override
    async def initial_metadata(self) -> aio.Metadata:
        return metadata.to_aio(await self._rpc.until_begun())

    @override
    async def trailing_metadata(self) -> aio.Metadata:
        return metadata.to_aio((await self._rpc.until_ended()).trailing)

    @override
    async def code(self) -> grpc.StatusCode:
        return (await self._rpc.until_ended()).code

    @override
    async def details(self) -> str:
        return (await self._rpc.until_ended()).details


class UnaryCall(_Call, aio.UnaryUnaryCall[Any, Any]):
    """A call with one response, which awaiting it answers."""

    __slots__ = ()

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @override
    def __await__(self) -> Generator[Any, None, Any]:
        rpc = self._rpc
        while rpc.outcome is None:
            try:
                yield from rpc.park()
            except asyncio.CancelledError:
                self.cancel()
                raise
        rpc.raise_unless_ok()
        return rpc.message

    @override
    async def wait_for_connection(self) -> None:
        await self


class StreamCall(_Call, aio.UnaryStreamCall[Any, Any]):
    """A call with a stream of responses, to be iterated over or read, but not both.

    One that is dropped before its end is cancelled.
    """

    __slots__ = ("_style",)
    _rpc: StreamRpc

    def __init__(self, rpc: StreamRpc) -> None:
        self._rpc = rpc
        self._style: _Style | None = None

    def __del__(self) -> None:
        if self._rpc.outcome is None:
            # The collector may run in any thread, and after the loop.
            with contextlib.suppress(RuntimeError):
                self._rpc.loop.call_soon_threadsafe(
                    self._rpc.terminate, _CANCELLED, "Cancelled upon garbage collection!"
                )

    @override
    def __aiter__(self) -> AsyncIterator[Any]:
        self._use(_Style.ITERATION)
        return _Messages(self)

    @override
    def read(self) -> Coroutine[Any, Any, Any]:
        if self._style is not _Style.READS and self._rpc.outcome is None:
            self._use(_Style.READS)
        return self.next()

    @override
    async def wait_for_connection(self) -> None:
        await self._rpc.until_begun()
        self._rpc.raise_unless_ok()

    async def next(self) -> Any:
        """The next message, or EOF after the last; raises the error that the stream ended with."""
        rpc = self._rpc
        while not rpc.buffer:
            if rpc.outcome is not None:
                rpc.raise_unless_ok()
                return aio.EOF
            try:
                await rpc.park()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return rpc.take()

    async def comes(self, seconds: float) -> bool:
        """Whether the next message or the end comes within `seconds`; neither is taken."""
        rpc = self._rpc
        if self._ready():
            return True
        late: list[bool] = []

        def passed() -> None:
            late.append(True)
            wake(rpc.waiters)

        timer = rpc.loop.call_later(seconds, passed)
        try:
            while not (late or self._ready()):
                await rpc.park()
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            timer.cancel()
        return self._ready()

    def _ready(self) -> bool:
        return bool(self._rpc.buffer) or self._rpc.outcome is not None

    async def consume(self, take: Callable[[Any], bool]) -> bool:
        """Hand messages to `take` until it answers False; see `aigateway_common.streaming`."""
        rpc = self._rpc
        while rpc.buffer:
            if not take(rpc.take()):
                return False
        if rpc.outcome is None and not await self._sink(take):
            return False
        rpc.raise_unless_ok()
        return True

    async def _sink(self, take: Callable[[Any], bool]) -> bool:
        """Have messages taken as they are written, until `take` answers False or the call ends; whether it did end."""
        rpc = self._rpc
        rpc.sink = take
        try:
            while rpc.sinking and rpc.outcome is None:
                await rpc.park()
            ended = rpc.sinking
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            rpc.sink = None
            failed, rpc.sink_failed = rpc.sink_failed, None
        if failed is not None:
            raise failed
        return ended

    def _use(self, style: _Style) -> None:
        if self._style is not style:
            if self._style is not None:
                raise aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
            self._style = style


class _Messages:
    """The messages of a stream; holds on to its call, which lives as long as somebody iterates."""

    __slots__ = ("_call",)

    def __init__(self, call: StreamCall) -> None:
        self._call = call

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        message = await self._call.next()
        if message is aio.EOF:
            raise StopAsyncIteration
        return message
