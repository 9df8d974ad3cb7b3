"""One HTTP request from its headers to its last byte: what every route shares.

An exchange knows who asks, waits for a call while watching for the caller's disconnect, answers or fails exactly once,
and leaves one log line, one span and its metrics. What is asked and answered is the routes' business.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aigateway_common import attributes, departure, logs, metrics, outflow
from aigateway_common.errors import GatewayError, from_rpc_error
from aigateway_common.telemetry import SpanKind
from grpc import aio

from aigateway_edge import call_headers, errors, header_values, refusal
from aigateway_edge.inbound import ClientGoneError, Held, Inbound
from aigateway_edge.sse_out import SseOut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aigateway.v1 import chat_pb2, gateway_service_pb2, gateway_service_pb2_grpc
    from aigateway_common.telemetry import Span, Telemetry
    from starlette.types import Receive, Scope, Send
    from structlog.typing import FilteringBoundLogger

    from aigateway_edge.settings import EdgeSettings

T = TypeVar("T")

_SERVICE: Final = "edge"


@dataclass(frozen=True, slots=True)
class Edge:
    """What all exchanges share."""

    settings: EdgeSettings
    gateway: aio.Channel
    stub: gateway_service_pb2_grpc.GatewayServiceAsyncStub
    telemetry: Telemetry
    log: FilteringBoundLogger
    held: Held


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        edge: Edge,
        operation: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        shape: errors.Shape = errors.OPENAI,
    ) -> None:
        self.edge = edge
        self.settings = edge.settings
        self.operation = operation
        self.scope = scope
        self.receive = receive
        self.inbound = Inbound(scope)
        self.request_id = self.inbound.request_id
        self.model = ""
        """The name the caller used, once it is known."""
        self.places: Callable[[str], str] | None = None
        """Puts the caller's own paths where the gateway names messages by its own count, when the two differ."""
        self._send = send
        self._shape = shape
        self._began = time.monotonic_ns()
        self._provider = ""
        self._sent_model = ""
        self._status = 0
        self._outcome = metrics.OK
        self._error: BaseException | None = None
        self._gone = False
        self._sse: SseOut | None = None
        self._trace = self.inbound.trace_context()
        self.span: Span = edge.telemetry.span(operation, kind=SpanKind.SERVER, parent=self._trace)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with the call to the router."""
        trace = self.span.metadata() or self._trace
        return (*self.inbound.credentials(), ("x-request-id", self.request_id), *self.inbound.session(), *trace)

    def timeout(self) -> float:
        """Seconds that the call may take."""
        return self.inbound.timeout(self.settings)

    async def body(self) -> bytes:
        """The request's body. Raises GatewayError OVERLOADED where there is no room for the call."""
        refusal.check(self.scope)
        return await self.inbound.body(self.receive, self.settings.max_body_bytes, self.edge.held)

    async def result(self, call: aio.UnaryUnaryCall[Any, T]) -> T:
        """The answer to a unary call, which is cancelled as soon as the caller goes away."""

        def gone() -> None:
            self._gone = True
            call.cancel()

        ignore = self._watched(gone)
        try:
            return await call
        except asyncio.CancelledError:
            if self._gone:
                raise ClientGoneError from None
            raise
        finally:
            ignore()
            call.cancel()

    def open_stream(self, call: aio.UnaryStreamCall[Any, Any], failure: Callable[[GatewayError], bytes]) -> SseOut:
        """The response as an event stream, which cancels `call` as soon as the caller goes away.

        `failure` makes the records that tell of an error in mid-stream.
        """

        def gone() -> None:
            self._gone = True
            call.cancel()

        put = self.scope.get("extensions", {}).get(outflow.EXTENSION)
        ignore = self._watched(gone)
        self._sse = SseOut(
            self._send, failure, self.settings.heartbeat_seconds, self._base_headers(), closed=ignore, put=put
        )
        self._sse.heartbeat = self._shape.heartbeat
        return self._sse

    @property
    def gone(self) -> bool:
        """Whether the caller has closed the connection."""
        return self._gone

    def routed(
        self,
        route: gateway_service_pb2.Route,
        timing: chat_pb2.CallTiming,
        notes: Sequence[chat_pb2.TranslationNote],
    ) -> errors.Headers:
        """Note where the call went, and say so in headers."""
        self._provider, self._sent_model = route.provider, route.sent_model
        value, own = header_values.server_timing(timing, time.monotonic_ns() - self._began)
        metrics.overhead(_SERVICE, own)
        headers: errors.Headers = [
            (b"x-provider", header_values.safe(route.provider)),
            (b"x-model", header_values.safe(route.sent_model)),
            (b"server-timing", value),
        ]
        report = self._report(notes)
        if report:
            headers.append((b"x-gateway-translation", report))
        headers += call_headers.of_route(route, anthropic=self._shape.anthropic)
        if self.span.recording:
            self.span.set(attributes.EDGE_TIME, own)
            self.span.set(attributes.PROVIDER, attributes.provider_name(route.provider))
            if report:
                self.span.set(attributes.TRANSLATION, report.decode())
        return headers

    def late_report(self, notes: Sequence[chat_pb2.TranslationNote]) -> bytes:
        """What only the end of a stream showed, as a comment in it, since its headers are gone; empty without notes."""
        report = self._report(notes)
        if not report:
            return b""
        if self.span.recording:
            self.span.set(attributes.LATE_TRANSLATION, report.decode())
        return b": x-gateway-translation: %b\n\n" % report

    def _report(self, notes: Sequence[chat_pb2.TranslationNote]) -> bytes:
        report = header_values.translation(notes) if notes else b""
        return self.places(report.decode()).encode() if report and self.places is not None else report

    async def reply(self, body: bytes, headers: errors.Headers | None = None, status: int = 200) -> None:
        """Answer with JSON."""
        self._status = status
        all_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *self._base_headers(),
            *(headers or ()),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self._send({"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body})

    async def run(self, work: Awaitable[None]) -> None:
        """Do the work of a route; however it ends, the caller is answered if still there, and the end is noted."""
        try:
            await work
            if self._sse is not None:
                self._status = 200
        except ClientGoneError as error:
            self._failed(GatewayError("CANCELLED", "the caller went away"), error)
        except asyncio.CancelledError as error:
            self._failed(GatewayError("CANCELLED", "the server is stopping"), error)
            raise
        except GatewayError as error:
            await self._fail(error)
        except aio.AioRpcError as error:
            await self._fail(self._placed(from_rpc_error(error)))
        except Exception as error:  # nothing may take the server down, and the caller is owed an answer
            self.edge.log.exception("fault", request_id=self.request_id, operation=self.operation)
            await self._fail(GatewayError("INTERNAL", "internal error; the logs have it under the request id"), error)
        finally:
            self._close()

    def _placed(self, error: GatewayError) -> GatewayError:
        if self.places is not None:
            error.message = self.places(error.message)
            error.details = {key: self.places(value) for key, value in error.details.items()}
        return error

    def _watched(self, gone: Callable[[], None]) -> Callable[[], object]:
        """Have `gone` called when the caller goes away, until what is answered is called."""
        told: departure.Departure | None = self.scope.get("extensions", {}).get(departure.EXTENSION)
        if told is None:
            return asyncio.ensure_future(self._receive_end(gone)).cancel
        told.listen(gone)
        return told.ignore

    async def _receive_end(self, gone: Callable[[], None]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        gone()

    def _failed(self, error: GatewayError, cause: BaseException | None = None) -> None:
        self._outcome = error.reason.name
        self._error = cause or error
        self._provider = self._provider or error.details.get("provider", "")
        self._status = self._shape.status(error)

    async def _fail(self, error: GatewayError, cause: BaseException | None = None) -> None:
        self._failed(error, cause)
        if self._sse is None or not await self._sse.fail(error):
            shape = self._shape
            headers = errors.headers(error, anthropic=shape.anthropic)
            await self.reply(shape.body(error, self.request_id), headers, shape.status(error))

    def _base_headers(self) -> errors.Headers:
        request_id = self.request_id.encode()
        if name := self._shape.request_id_header:
            return [(b"x-request-id", request_id), (name, request_id)]
        return [(b"x-request-id", request_id)]

    def _close(self) -> None:
        self._sse = None  # it knows this exchange: a cycle for the collector
        seconds = (time.monotonic_ns() - self._began) / 1e9
        metrics.call_finished(_SERVICE, self.operation.removeprefix("stream_"), self._provider, self._outcome, seconds)
        if self.span.recording:
            self.span.set(attributes.HTTP_METHOD, self.scope["method"])
            self.span.set(attributes.HTTP_STATUS, self._status)
            self.span.set(attributes.REQUEST_ID, self.request_id)
            self.span.set(attributes.REQUESTED_MODEL, self.model or None)
            self.span.end(self._error)
        traced = self.edge.telemetry.enabled
        logs.call(
            self.edge.log,
            _SERVICE,
            self.request_id,
            {
                **({"trace_id": self.span.trace_id, "span_id": self.span.span_id} if traced else {}),
                "operation": self.operation,
                "status": self._status,
                "outcome": self._outcome,
                "provider": self._provider,
                "model": self.model,
                "sent_model": self._sent_model,
                "seconds": round(seconds, 6),
            },
        )
        self._error = None  # its frames hold this exchange and the body: together they would wait for the collector
