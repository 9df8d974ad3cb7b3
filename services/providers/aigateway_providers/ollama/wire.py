"""The shape of Ollama's answers, as msgspec reads them.

The same for a whole answer and for one line of a stream. Every field may be missing or null: servers of many versions
are about (https://docs.ollama.com/api/chat).
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What the contract has room for."""
EMPTY_OBJECT: Final = msgspec.Raw(b"{}")


class Function(msgspec.Struct):
    """What a tool call calls."""

    name: str = ""
    arguments: msgspec.Raw = EMPTY_OBJECT
    """A JSON object, as it is written."""


class Call(msgspec.Struct):
    """A tool call; older servers give no id."""

    function: Function
    id: str | None = None


class TokenLogprob(msgspec.Struct):
    """One token and its log probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class Logprob(TokenLogprob):
    """The token that was written, and those that might have been."""

    top_logprobs: list[TokenLogprob] | None = None


class Message(msgspec.Struct):
    """What the model said."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Answer(msgspec.Struct):
    """A whole answer of `/api/chat`, or one line of its stream."""

    model: str = ""
    created_at: str = ""
    message: Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Count | None = None
    prompt_eval_cached_count: Count | None = None
    eval_count: Count | None = None
    load_duration: Count | None = None
    """Nanoseconds, as are the other durations."""
    prompt_eval_duration: Count | None = None
    eval_duration: Count | None = None
    logprobs: list[Logprob] | None = None
    error: Any = None
    """Instead of all else: what went wrong."""
    status: Count | None = None
    """With `error` on newer servers: the HTTP status it stands for."""


class Vectors(msgspec.Struct):
    """The answer of `/api/embed`."""

    model: str = ""
    embeddings: list[list[float]] | None = None
    prompt_eval_count: Count | None = None
    error: Any = None


class Entry(msgspec.Struct):
    """One model of `/api/tags`."""

    name: str
    modified_at: str = ""
    capabilities: list[str] | None = None


class Tags(msgspec.Struct):
    """The answer of `/api/tags`; each entry is read twice, since it is passed on whole."""

    models: list[msgspec.Raw] | None = None


class Loaded(msgspec.Struct):
    """One model of `/api/ps` (https://docs.ollama.com/api/ps)."""

    name: str
    expires_at: str = ""
    size: Count | None = None
    size_vram: Count | None = None
    context_length: Count | None = None


class Running(msgspec.Struct):
    """The answer of `/api/ps`."""

    models: list[Loaded] | None = None
