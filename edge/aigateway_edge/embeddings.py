"""`POST /v1/embeddings`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway.v1 import gateway_service_pb2
from aigateway_common import attributes

from aigateway_edge.exchange import Edge, Exchange
from aigateway_edge.openai.from_proto import embeddings
from aigateway_edge.openai.to_proto import embed_call

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Embeddings:
    """The route, as an ASGI application."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._edge, "embed", scope, receive, send)
        await exchange.run(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        parsed = embed_call(await exchange.body())
        exchange.model = parsed.call.model
        parsed.call.translation_policy = exchange.inbound.policy()
        if exchange.span.recording:
            exchange.span.set(attributes.OPERATION, attributes.EMBEDDINGS)
        response = await exchange.result(
            self._edge.stub.Embed(
                gateway_service_pb2.EmbedRequest(call=parsed.call),
                timeout=exchange.timeout(),
                metadata=exchange.metadata(),
            )
        )
        body = embeddings(response.embeddings, base64_vectors=parsed.base64)
        headers = exchange.routed(response.route, response.timing, response.embeddings.translation)
        await exchange.reply(body, headers)
