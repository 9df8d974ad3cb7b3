"""`POST /v1/chat/completions`, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from aigateway.v1 import chat_pb2, gateway_service_pb2
from aigateway_common import attributes, metrics
from aigateway_common.errors import GatewayError
from grpc import aio

from aigateway_edge import header_values
from aigateway_edge.exchange import Edge, Exchange
from aigateway_edge.inbound import ClientGoneError
from aigateway_edge.openai.chunks import Chunks
from aigateway_edge.openai.from_proto import chat_completion
from aigateway_edge.openai.to_proto import ParsedChat, chat_call

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_SERVICE: Final = "edge"


class ChatCompletions:
    """The route, as an ASGI application."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._edge, "chat", scope, receive, send)
        await exchange.run(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        parsed = chat_call(await exchange.body())
        call = parsed.call
        exchange.model = call.model
        call.translation_policy = exchange.inbound.policy()
        if self._edge.telemetry.enabled:
            exchange.span.set(attributes.OPERATION, attributes.CHAT)
            exchange.span.set(attributes.REQUEST_STREAM, parsed.stream)
        if parsed.stream:
            exchange.operation = "stream_chat"
            metrics.stream_opened(_SERVICE)
            try:
                await self._stream(exchange, parsed)
            finally:
                metrics.stream_closed(_SERVICE)
        else:
            await self._whole(exchange, parsed)

    async def _whole(self, exchange: Exchange, parsed: ParsedChat) -> None:
        response = await exchange.result(
            self._edge.stub.Chat(
                gateway_service_pb2.ChatRequest(call=parsed.call),
                timeout=exchange.timeout(),
                metadata=exchange.metadata(),
            )
        )
        completion = response.completion
        body, notes = chat_completion(
            completion, request_id=exchange.request_id, legacy_functions=parsed.legacy_functions
        )
        report = header_values.joined(completion.translation, notes)
        await exchange.reply(body, exchange.routed(response.route, response.timing, report))

    async def _stream(self, exchange: Exchange, parsed: ParsedChat) -> None:
        call = self._edge.stub.StreamChat(
            gateway_service_pb2.StreamChatRequest(call=parsed.call),
            timeout=exchange.timeout(),
            metadata=exchange.metadata(),
        )
        out = exchange.open_stream(call)
        chunks = Chunks(
            request_id=exchange.request_id,
            include_usage=parsed.call.include_usage,
            legacy_functions=parsed.legacy_functions,
        )
        try:
            first = await _read(call)
            if first is None:
                raise GatewayError("UPSTREAM_INVALID", "the answer ended before it began")
            headers = exchange.routed(first.route, first.timing, _notes(first))
            await out.send(chunks.write(first.events), headers)
            while (message := await _read(call)) is not None:
                if data := chunks.write(message.events):
                    await out.send(data)
            await out.end(chunks.end())
        except asyncio.CancelledError:
            if exchange.gone:
                raise ClientGoneError from None
            raise
        finally:
            out.close()
            call.cancel()


async def _read(
    call: aio.UnaryStreamCall[gateway_service_pb2.StreamChatRequest, gateway_service_pb2.StreamChatResponse],
) -> gateway_service_pb2.StreamChatResponse | None:
    """The next message; None at the end of the stream."""
    message = await call.read()
    return None if message is aio.EOF else cast("gateway_service_pb2.StreamChatResponse", message)


def _notes(first: gateway_service_pb2.StreamChatResponse) -> list[chat_pb2.TranslationNote]:
    return [note for event in first.events if event.HasField("start") for note in event.start.translation]
