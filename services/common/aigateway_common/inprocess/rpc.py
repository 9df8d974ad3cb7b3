"""One call in flight: what its two sides share, and the one place where it ends.

A call ends once for the client (`outcome`), by whichever comes first: the server's answer, the deadline, a
cancellation, or the server stopping. The handler is told of the last three by a CancelledError and may take its time to
clean up; the client does not wait for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
from grpc import aio
from typing_extensions import override

from aigateway_common.inprocess import metadata

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFER: Final = 16
"""Messages of a stream that may wait for a slow reader before the writer has to wait too."""
_REFILL: Final = BUFFER // 2

_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    trailing: metadata.Pairs


class Rpc:
    """A call with one response."""

    __slots__ = (
        "answered",
        "callbacks",
        "channel",
        "deadline",
        "handler_ended",
        "initial",
        "locally",
        "loop",
        "message",
        "metadata",
        "outcome",
        "started",
        "task",
        "timer",
        "waiters",
    )

    def __init__(
        self, channel: object, loop: asyncio.AbstractEventLoop, invocation: metadata.Pairs, timeout: float | None
    ) -> None:
        self.channel = channel
        self.loop = loop
        self.metadata = invocation
        self.deadline: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = False
        """The handler has begun."""
        self.handler_ended: Callable[[Rpc], None] | None = None
        """To be told when the handler never begins; it tells of its end itself."""
        self.answered = False
        """The server has sent its status, whether or not the client still wanted it."""
        self.outcome: Outcome | None = None
        """How the call ended for the client."""
        self.locally = False
        """The client itself cancelled: it gets CancelledError, as from any task, and not AioRpcError."""
        self.initial: metadata.Pairs | None = None
        self.message: Any = None
        self.waiters: list[asyncio.Future[None]] = []
        """The client's: each looks again when something has come."""
        self.callbacks: list[Callable[[], None]] | None = None
        if timeout is not None:
            self.deadline = loop.time() + timeout
            if timeout > 0:
                self.timer = loop.call_later(timeout, self.expire)
            else:
                self.expire()

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, never below 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - self.loop.time())

    def park(self) -> asyncio.Future[None]:
        """A future for the client to wait on until something has come."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self.waiters.append(waiter)
        return waiter

    def unpark(self, waiter: asyncio.Future[None]) -> None:
        """Forget a future whose wait was given up."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    async def until_ended(self) -> Outcome:
        """Wait for the end, which giving this wait up does not bring about."""
        while self.outcome is None:
            waiter = self.park()
            try:
                await waiter
            except asyncio.CancelledError:
                self.unpark(waiter)
                raise
        return self.outcome

    async def until_begun(self) -> metadata.Pairs:
        """Wait for the initial metadata, which comes with the first message or the end at the latest."""
        while self.initial is None:
            waiter = self.park()
            try:
                await waiter
            except asyncio.CancelledError:
                self.unpark(waiter)
                raise
        return self.initial

    def begin(self, initial: metadata.Pairs = ()) -> None:
        """Send the initial metadata."""
        self.initial = initial
        wake(self.waiters)

    def answer(self, outcome: Outcome) -> None:
        """The server's end of the call; only the first counts."""
        if self.answered:
            return
        self.answered = True
        if self.outcome is None:
            self._end(outcome)

    def terminate(self, code: grpc.StatusCode, details: str, *, locally: bool = False) -> bool:
        """End the call from outside the handler, which gets a CancelledError; False when it had ended already."""
        if self.outcome is not None:
            return False
        self.locally = locally
        self._end(Outcome(code, details, ()))
        if self.task is not None and not self.answered:
            self.task.cancel()
            if not self.started and self.handler_ended is not None:
                self.handler_ended(self)
        return True

    def expire(self) -> None:
        """The deadline has passed."""
        self.terminate(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def raise_unless_ok(self) -> None:
        """Raise what the client gets for a call that ended badly: AioRpcError, or CancelledError for its own cancel."""
        outcome = self.outcome
        if outcome is None or outcome.code is grpc.StatusCode.OK:
            return
        if self.locally:
            raise asyncio.CancelledError
        raise aio.AioRpcError(
            outcome.code,
            metadata.to_aio(self.initial),
            metadata.to_aio(outcome.trailing),
            details=outcome.details,
            debug_error_string=f"in process: {outcome.code.name}: {outcome.details}",
        )

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.initial is None:
            self.initial = ()
        wake(self.waiters)
        if self.callbacks:
            callbacks, self.callbacks = self.callbacks, None
            for callback in callbacks:
                run_callback(callback)


class StreamRpc(Rpc):
    """A call with any number of responses.

    The server's status stands behind the messages, as on the wire: the call has ended for the client once all are read.
    """

    __slots__ = ("buffer", "last", "sink", "sink_failed", "writers")

    def __init__(
        self, channel: object, loop: asyncio.AbstractEventLoop, invocation: metadata.Pairs, timeout: float | None
    ) -> None:
        self.buffer: deque[Any] = deque()
        self.last: Outcome | None = None
        self.writers: list[asyncio.Future[None]] = []
        self.sink: Callable[[Any], bool] | None = None
        """What takes messages at once, while the client consumes them; then none wait in `buffer`."""
        self.sink_failed: BaseException | None = None
        super().__init__(channel, loop, invocation, timeout)

    def put(self, message: object) -> bool:
        """Send a message; whether too many wait to be read, so that the writer has to wait `until_read`."""
        if self.initial is None:
            self.initial = ()
        sink = self.sink
        if sink is not None:
            try:
                if sink(message):
                    return False
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- it is the client's, not the writer's
                self.sink_failed = error
            self.sink = None
            wake(self.waiters)
            return False
        buffer = self.buffer
        buffer.append(message)
        if self.waiters:
            wake(self.waiters)
        return len(buffer) >= BUFFER

    @property
    def sinking(self) -> bool:
        """Whether messages are taken as they are written."""
        return self.sink is not None

    async def until_read(self) -> None:
        """Wait while too many messages wait to be read."""
        while len(self.buffer) >= BUFFER:
            writer: asyncio.Future[None] = self.loop.create_future()
            self.writers.append(writer)
            await writer
        if self.outcome is not None:
            raise aio.InternalError("the call has ended")

    def take(self) -> Any:
        """The oldest message; there must be one."""
        buffer = self.buffer
        message = buffer.popleft()
        if self.writers and len(buffer) <= _REFILL:
            wake(self.writers)
        if not buffer and self.last is not None:
            self._end(self.last)
        return message

    @override
    def answer(self, outcome: Outcome) -> None:
        if self.answered:
            return
        self.answered = True
        if self.outcome is None and self.buffer:
            self.last = outcome
        elif self.outcome is None:
            self._end(outcome)

    @override
    def terminate(self, code: grpc.StatusCode, details: str, *, locally: bool = False) -> bool:
        if not super().terminate(code, details, locally=locally):
            return False
        self.buffer.clear()
        wake(self.writers)
        return True


def wake(waiters: list[asyncio.Future[None]]) -> None:
    """Let all of `waiters` look again."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


def run_callback(callback: Callable[[], None]) -> None:
    """Run someone else's callback; what it raises is logged and goes no further."""
    try:
        callback()
    except Exception:  # noqa: BLE001 -- a callback must not change how a call ends
        _log.exception("a done callback failed")
