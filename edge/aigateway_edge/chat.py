"""`POST /v1/chat/completions`: what was asked in OpenAI's Chat Completions dialect, and how it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigateway_edge.openai.chunks import Chunks
from aigateway_edge.openai.from_proto import chat_completion
from aigateway_edge.openai.to_proto import chat_call

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2


@dataclass(frozen=True, slots=True)
class AskedChat:
    """A chat completions request."""

    call: chat_pb2.ChatCall
    stream: bool
    legacy_functions: bool

    def whole(
        self, completion: chat_pb2.ChatCompletion, request_id: str
    ) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
        """A `chat.completion` object."""
        return chat_completion(completion, request_id=request_id, legacy_functions=self.legacy_functions)

    def writer(self, request_id: str) -> Chunks:
        """Writes `chat.completion.chunk` records."""
        return Chunks(
            request_id=request_id, include_usage=self.call.include_usage, legacy_functions=self.legacy_functions
        )


def asked(body: bytes) -> AskedChat:
    """Read a request."""
    parsed = chat_call(body)
    return AskedChat(parsed.call, parsed.stream, parsed.legacy_functions)
