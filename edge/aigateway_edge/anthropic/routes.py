"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's dialect over any provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2, gateway_service_pb2
from aigateway_common import attributes
from aigateway_common.errors import invalid
from typing_extensions import override

from aigateway_edge.anthropic.carriers import ANTHROPIC as ANTHROPIC_NAME
from aigateway_edge.anthropic.events import Events
from aigateway_edge.anthropic.failures import ANTHROPIC
from aigateway_edge.anthropic.from_proto import message, token_count
from aigateway_edge.anthropic.to_proto import VERSION_FIELD, ParsedMessages, messages_call
from aigateway_edge.chat_route import ChatRoute
from aigateway_edge.exchange import Edge, Exchange

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

VERSIONS: Final = (b"2023-06-01", b"2026-10-21")
"""What `anthropic-version` may say; the API demands the header, and so does the gateway.

They differ in what Anthropic refuses, so the caller's own goes on to it: https://platform.claude.com/docs/en/api/versioning.
"""


class AskedMessages:
    """A messages request, read."""

    def __init__(self, parsed: ParsedMessages) -> None:
        self.call = parsed.call
        self.stream = parsed.stream

    def whole(
        self, completion: chat_pb2.ChatCompletion, request_id: str
    ) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
        """The body of the whole answer, and notes of what it could not show."""
        return message(completion, request_id=request_id)

    def writer(self, request_id: str) -> Events:
        """What writes the streamed answer."""
        return Events(request_id=request_id)


class Messages(ChatRoute):
    """The route of messages."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, lambda body: AskedMessages(messages_call(body)), ANTHROPIC)

    @override
    async def _asked(self, exchange: Exchange) -> AskedMessages:
        return AskedMessages(await _read(exchange))


class CountTokens:
    """The route that counts the tokens of a messages request."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._edge, "count_tokens", scope, receive, send, ANTHROPIC)
        await exchange.run(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        parsed = await _read(exchange, counting=True)
        exchange.model = parsed.call.model
        parsed.call.translation_policy = exchange.inbound.policy()
        if exchange.span.recording:
            exchange.span.set(attributes.OPERATION, attributes.COUNT_TOKENS)
        call = self._edge.stub.CountTokens(
            gateway_service_pb2.CountTokensRequest(call=parsed.call),
            timeout=exchange.timeout(),
            metadata=exchange.metadata(),
        )
        response = await exchange.result(call)
        headers = exchange.routed(response.route, response.timing, response.count.translation)
        await exchange.reply(token_count(response.count), headers)


async def _read(exchange: Exchange, *, counting: bool = False) -> ParsedMessages:
    version = exchange.inbound.header(b"anthropic-version")
    if version not in VERSIONS:
        known = " or ".join(f"`{one.decode()}`" for one in VERSIONS)
        raise invalid("anthropic-version", f"header `anthropic-version` must be {known}")
    betas = exchange.inbound.header(b"anthropic-beta").decode("ascii", "replace")
    parsed = messages_call(await exchange.body(), betas, counting=counting)
    parsed.call.provider_options[ANTHROPIC_NAME] = b'{"%b":"%b"}' % (VERSION_FIELD, version)
    exchange.places = parsed.conversation.renamed
    return parsed
