"""`POST /v1/responses`: OpenAI's Responses dialect over any provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from aigateway_edge.chat_route import ChatRoute
from aigateway_edge.responses.events import Events
from aigateway_edge.responses.from_proto import response
from aigateway_edge.responses.state import Ids
from aigateway_edge.responses.to_proto import ParsedResponse, response_call

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2

    from aigateway_edge.exchange import Edge, Exchange


class AskedResponse:
    """A Responses request, read."""

    def __init__(self, parsed: ParsedResponse) -> None:
        self.call = parsed.call
        self.stream = parsed.stream
        self._echo = parsed.echo

    def whole(
        self,
        completion: chat_pb2.ChatCompletion,
        request_id: str,  # noqa: ARG002 # a caller may use it twice, and ids of items must differ
    ) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
        """A `response` object."""
        return response(completion, self._echo, Ids())

    def writer(self, request_id: str) -> Events:  # noqa: ARG002 # as above
        """Writes `response.*` records."""
        return Events(self._echo)


class Responses(ChatRoute):
    """The route of responses."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, lambda body: AskedResponse(response_call(body)))

    @override
    async def _asked(self, exchange: Exchange) -> AskedResponse:
        parsed = response_call(await exchange.body())
        exchange.places = parsed.renamed
        return AskedResponse(parsed)
