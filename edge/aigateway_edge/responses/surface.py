"""`POST /v1/responses`: what was asked in OpenAI's Responses dialect, and how it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aigateway_edge.responses.events import Events
from aigateway_edge.responses.from_proto import response
from aigateway_edge.responses.state import Ids
from aigateway_edge.responses.to_proto import response_call

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2


@dataclass(frozen=True, slots=True)
class AskedResponse:
    """A Responses request."""

    call: chat_pb2.ChatCall
    stream: bool
    echo: dict[str, Any]

    def whole(
        self,
        completion: chat_pb2.ChatCompletion,
        request_id: str,  # noqa: ARG002 # a caller may use it twice, and ids of items must differ
    ) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
        """A `response` object."""
        return response(completion, self.echo, Ids())

    def writer(self, request_id: str) -> Events:  # noqa: ARG002 # as above
        """Writes `response.*` records."""
        return Events(self.echo)


def asked(body: bytes) -> AskedResponse:
    """Read a request."""
    parsed = response_call(body)
    return AskedResponse(parsed.call, parsed.stream, parsed.echo)
