"""`POST /v1/completions`: what was asked in OpenAI's legacy Completions dialect, and how it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigateway_edge.completions.from_proto import TextChunks, text_completion
from aigateway_edge.completions.to_proto import completion_call

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2


@dataclass(frozen=True, slots=True)
class AskedCompletion:
    """A completions request."""

    call: chat_pb2.ChatCall
    stream: bool
    before: str

    def whole(
        self, completion: chat_pb2.ChatCompletion, request_id: str
    ) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
        """A `text_completion` object."""
        return text_completion(completion, request_id=request_id, before=self.before)

    def writer(self, request_id: str) -> TextChunks:
        """Writes `text_completion` records."""
        return TextChunks(request_id=request_id, include_usage=self.call.include_usage, before=self.before)


def asked(body: bytes) -> AskedCompletion:
    """Read a request."""
    parsed = completion_call(body)
    return AskedCompletion(parsed.call, parsed.stream, parsed.before)
