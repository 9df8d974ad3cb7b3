"""The seam between the generic provider server and one provider: what an adapter is.

An adapter is pure translators (`request.py`, `response.py`, `stream.py`) and an `adapter.py` that joins them to one
`Upstream`. It makes one upstream request per call (several where a provider takes only so many texts to embed at once)
and never retries, routes or prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aigateway.v1 import chat_pb2, embedding_pb2, model_pb2

    Tell: TypeAlias = Callable[[list[chat_pb2.ChatEvent]], bool]
    """Writes events of text in the middle of a stream, as if they were yielded, while it waits for its provider. False
    where that cannot be: then nothing was written, and they are to be yielded."""


@dataclass(slots=True)
class CallContext:
    """What belongs to one call beside its message; the upstream client writes what it saw."""

    request_id: str = ""
    """The id of the call, for logs."""
    upstream_ns: int = 0
    """Nanoseconds spent waiting for the provider: to the whole answer, or to the first bytes of a stream."""
    upstream_status: int | None = None
    """The provider's HTTP status, once it answered."""
    tell: Tell | None = None
    """Writes texts of a stream at once, where nobody has to wait for that; see `Tell`."""


class Adapter(Protocol):
    """One provider. Every method raises `GatewayError`, and nothing else, for what went wrong upstream."""

    @property
    def capabilities(self) -> model_pb2.Capabilities:
        """What the adapter can do."""

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        """The whole answer."""

    def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        """The answer in events; each item is the non-empty list that one upstream read brought.

        The first event is `start`; every choice ends with `finish`; closing the generator closes the upstream socket.
        """

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:
        """The vectors, in the order of the inputs."""

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:
        """The provider's models; `id` is the provider's own name."""

    async def aclose(self) -> None:
        """Close the upstream connections."""


@runtime_checkable
class TokenCounter(Protocol):
    """What an adapter also is when its provider counts the tokens of a prompt ahead of a call."""

    async def count_tokens(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.TokenCount:
        """The tokens of the prompt. Raises `GatewayError`."""


@runtime_checkable
class Keyed(Protocol):
    """What an adapter also is when its provider asks for a key."""

    def rekey(self, key: str) -> None:
        """Show `key` in calls that begin from now on. Raises ValueError for one that cannot be sent."""
