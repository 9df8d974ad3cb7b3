"""A route that asks one model for one answer, whole or streamed, in whichever dialect.

The dialect reads the body and writes the answer (`Asked`, `Writer`); what is the same for all is here: the call to the
router, the stream's first event before the status, the caller's disconnect. Not for fields of any dialect.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from aigateway.v1 import chat_pb2, gateway_service_pb2
from aigateway_common import attributes, metrics, streaming
from aigateway_common.errors import GatewayError

from aigateway_edge import errors, header_values
from aigateway_edge.exchange import Edge, Exchange
from aigateway_edge.inbound import ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope, Send

_SERVICE: Final = "edge"
_Answer = gateway_service_pb2.StreamChatResponse


class Writer(Protocol):
    """Writes one stream; what it answers is ready to be sent."""

    def write(self, events: Sequence[chat_pb2.ChatEvent]) -> bytes:
        """The records of some events; may be empty."""

    def end(self) -> bytes:
        """The records that end a whole stream."""

    def fail(self, error: GatewayError) -> bytes:
        """The records of a failure in the middle of the stream; nothing follows them."""


class Asked(Protocol):
    """A request of one dialect, read."""

    @property
    def call(self) -> chat_pb2.ChatCall:
        """What goes to the router."""

    @property
    def stream(self) -> bool:
        """The caller wants a stream."""

    def whole(
        self, completion: chat_pb2.ChatCompletion, request_id: str
    ) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
        """The body of the whole answer, and notes of what it could not show."""

    def writer(self, request_id: str) -> Writer:
        """What writes the streamed answer."""


class ChatRoute:
    """The route, as an ASGI application; `read` makes a body into what was asked, `shape` tells of failures."""

    def __init__(self, edge: Edge, read: Callable[[bytes], Asked], shape: errors.Shape = errors.OPENAI) -> None:
        self._edge = edge
        self._read = read
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._edge, "chat", scope, receive, send, self._shape)
        await exchange.run(self._answer(exchange))

    async def _asked(self, exchange: Exchange) -> Asked:
        return self._read(await exchange.body())

    async def _answer(self, exchange: Exchange) -> None:
        asked = await self._asked(exchange)
        call = asked.call
        exchange.model = call.model
        call.translation_policy = exchange.inbound.policy()
        if exchange.span.recording:
            exchange.span.set(attributes.OPERATION, attributes.CHAT)
            exchange.span.set(attributes.REQUEST_STREAM, asked.stream)
        if asked.stream:
            exchange.operation = "stream_chat"
            metrics.stream_opened(_SERVICE)
            try:
                await self._stream(exchange, asked)
            finally:
                metrics.stream_closed(_SERVICE)
        else:
            await self._whole(exchange, asked)

    async def _whole(self, exchange: Exchange, asked: Asked) -> None:
        request = gateway_service_pb2.ChatRequest()
        request.call.CopyFrom(asked.call)
        response = await exchange.result(
            self._edge.stub.Chat(request, timeout=exchange.timeout(), metadata=exchange.metadata())
        )
        completion = response.completion
        body, notes = asked.whole(completion, exchange.request_id)
        report = header_values.joined(completion.translation, notes)
        await exchange.reply(body, exchange.routed(response.route, response.timing, report))

    async def _stream(self, exchange: Exchange, asked: Asked) -> None:
        request = gateway_service_pb2.StreamChatRequest()
        request.call.CopyFrom(asked.call)
        call = self._edge.stub.StreamChat(request, timeout=exchange.timeout(), metadata=exchange.metadata())
        writer = asked.writer(exchange.request_id)
        out = exchange.open_stream(call, writer.fail)

        write, put = writer.write, out.put

        def take(message: _Answer) -> bool:
            events = message.events[:]
            data = write(events)
            for event in events:
                if event.HasField("finish"):
                    data = _late(events, exchange) + data
                    break
            return not data or put(data)

        try:
            first = await call.read()
            if not isinstance(first, _Answer):
                raise GatewayError("UPSTREAM_INVALID", "the answer ended before it began")
            headers = exchange.routed(first.route, first.timing, _notes(first))
            events = first.events[:]
            data = writer.write(events)
            await out.send(_late(events, exchange) + data, headers)
            while not await streaming.consume(call, take):
                await out.drain()
            await out.end(writer.end())
        except asyncio.CancelledError:
            if exchange.gone:
                raise ClientGoneError from None
            raise
        finally:
            out.close()
            call.cancel()


def _late(events: Sequence[chat_pb2.ChatEvent], exchange: Exchange) -> bytes:
    """The report that comes with the end of a choice, when the headers may have left: it goes before the records."""
    notes = [note for event in events if event.HasField("finish") for note in event.finish.translation]
    return exchange.late_report(notes)


def _notes(first: _Answer) -> list[chat_pb2.TranslationNote]:
    return [note for event in first.events if event.HasField("start") for note in event.start.translation]
