"""Around every attempt: its span, its verdict for the policies, and its one usage event, however it ends.

Not for which attempts are made (`pursuit`) nor for what one sends and brings back (`unary`, `streams`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aigateway_common import attributes
from aigateway_common.errors import GatewayError
from aigateway_common.ids import new_id
from aigateway_common.telemetry import Span, SpanKind, Telemetry
from grpc import aio

from aigateway_router.attempts import Attempt
from aigateway_router.provider_errors import from_provider, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway.v1 import tokens_pb2, usage_service_pb2

    from aigateway_router.calls import Call
    from aigateway_router.routes import Target
    from aigateway_router.usage_emitter import UsageEmitter

    Guess = Callable[[GatewayError], tokens_pb2.TokenUsage | None]

LEFT: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED"})
"""Reasons that mean that nobody waits for the attempt any more."""


class CallerLeftError(asyncio.CancelledError):
    """A message could not be written: the caller is gone, and the cancellation of this task is on its way."""


@dataclass(slots=True)
class Errand:
    """What one attempt is for."""

    call: Call
    operation: usage_service_pb2.Operation.ValueType
    requested_model: str
    target: Target
    number: int = 1
    """Which attempt of the call, from 1."""
    fallback_from: str = ""
    """The `provider/model` it stands in for."""
    hedge: bool = False
    """It was started beside a slow one."""
    event_id: str = field(default_factory=new_id)
    """What the attempt will be recorded as, and money set aside under."""
    begun: bool = False
    """The attempt is made, and so recorded; else nothing of it remains."""


class Guard:
    """Begins attempts and sees to their end.

    Args:
        emitter: Where usage events go.
        telemetry: Where spans go.
        default_timeout: Seconds for a call whose caller set no deadline.
    """

    def __init__(self, emitter: UsageEmitter, telemetry: Telemetry, default_timeout: float) -> None:
        self.emitter = emitter
        self._telemetry = telemetry
        self._default_timeout = default_timeout

    def begin(self, errand: Errand) -> tuple[Attempt, Span]:
        """Start an attempt. Raises GatewayError OVERLOADED when its event could not be kept."""
        self.emitter.admit()
        call, target = errand.call, errand.target
        span = self._telemetry.span(f"attempt {target.provider}", kind=SpanKind.INTERNAL, parent=call.span)
        if span.recording:
            span.set(attributes.ATTEMPT, errand.number)
            span.set(attributes.PROVIDER, attributes.provider_name(target.provider))
            span.set(attributes.REQUEST_MODEL, target.model)
        attempt = Attempt(
            request_id=call.request_id,
            key_id=call.key_id,
            operation=errand.operation,
            provider=target.provider,
            requested_model=errand.requested_model,
            sent_model=target.model,
            trace_id=call.span.trace_id,
            project=call.caller.project,
            number=errand.number,
            fallback_from=errand.fallback_from,
            hedge=errand.hedge,
            event_id=errand.event_id,
        )
        errand.begun = True
        return attempt, span

    def watching(self, call: Call, attempt: Attempt, span: Span, guess: Guess) -> Watching:
        """Whatever ends the attempt badly becomes one GatewayError (or stays a cancellation), recorded once."""
        return Watching(self, call, attempt, span, guess)

    def timeout(self, call: Call) -> float:
        """Seconds left for the provider. Raises GatewayError DEADLINE_EXCEEDED when there are none."""
        remaining = call.remaining()
        if remaining is None:
            return self._default_timeout
        if remaining <= 0:
            raise GatewayError("DEADLINE_EXCEEDED", "the deadline of the call passed")
        return remaining

    def failed(self, attempt: Attempt, span: Span, error: GatewayError, guess: Guess) -> None:
        """Note how an attempt failed."""
        span.end(error)
        if not attempt.recorded:
            attempt.usage = guess(error)
            self.emitter.failed(attempt, error)

    def of_provider(self, call: Call, attempt: Attempt, failure: aio.AioRpcError) -> GatewayError:
        """The error behind that of an adapter's call."""
        own_timeout = self._default_timeout if call.remaining() is None else None
        return from_provider(failure, attempt.provider, own_timeout=own_timeout)


class Watching:
    """A context manager, see `Guard.watching`."""

    __slots__ = ("_attempt", "_call", "_guard", "_guess", "_span")

    def __init__(self, guard: Guard, call: Call, attempt: Attempt, span: Span, guess: Guess) -> None:
        self._guard = guard
        self._call = call
        self._attempt = attempt
        self._span = span
        self._guess = guess

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, ended: BaseException | None, trace: object) -> None:
        if ended is None:
            return
        attempt = self._attempt
        instead: GatewayError | None = None
        if isinstance(ended, asyncio.CancelledError):
            if not (_is_leaving() or isinstance(ended, CallerLeftError)):
                instead = unreachable(attempt.provider)
            error = instead or _left(self._call)
        elif isinstance(ended, aio.AioRpcError):
            error = instead = self._guard.of_provider(self._call, attempt, ended)
        elif isinstance(ended, GatewayError):
            ended.details.setdefault("provider", attempt.provider)
            error = ended
        elif isinstance(ended, Exception):
            error = GatewayError("INTERNAL", "a fault of the gateway")
        else:
            return
        self._guard.failed(attempt, self._span, error, self._guess)
        if instead is not None:
            raise instead from ended


def metadata(call: Call, span: Span) -> tuple[tuple[str, str], ...]:
    """What goes with a call to an adapter."""
    return (("x-request-id", call.request_id), *span.metadata())


def _is_leaving() -> bool:
    """Whether the task itself was cancelled: gRPC also says "cancelled" when the other side ended a stream so."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _left(call: Call) -> GatewayError:
    remaining = call.remaining()
    if remaining is not None and remaining <= 0:
        return GatewayError("DEADLINE_EXCEEDED", "the deadline of the call passed")
    return GatewayError("CANCELLED", "the caller went away, or another attempt answered first")
