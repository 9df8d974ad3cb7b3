"""The `response` object around the output items, whole or at any time of a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2

from aigateway_edge.openai.usage import prompt_tokens
from aigateway_edge.responses.content import DIALECT
from aigateway_edge.responses.items import fragment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway_common.errors import GatewayError

_INCOMPLETE: Final[Mapping[chat_pb2.FinishReason.ValueType, str]] = {
    chat_pb2.FINISH_REASON_LENGTH: "max_output_tokens",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
    # OpenAI has no word for it; its SDKs take any, and its own would send callers after a limit that is not there.
    chat_pb2.FINISH_REASON_PAUSE: "pause_turn",
}
_CODES: Final[Mapping[str, str]] = {"RATE_LIMITED": "rate_limit_exceeded", "INVALID_REQUEST": "invalid_prompt"}
"""OpenAI's closed list of codes, where one of ours has its like."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an answer from its beginning."""

    id: str
    created: int
    model: str
    echo: Mapping[str, Any]
    """What it repeats of the request."""

    def response(
        self,
        status: str,
        output: Sequence[Any] = (),
        *,
        reason: str = "",
        error: Mapping[str, str] | None = None,
        usage: Any = None,  # JSON
    ) -> dict[str, Any]:
        """The object; `reason` says why it is incomplete."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self.model,
            "output": list(output),
            "store": False,
            "usage": usage,
            **self.echo,
        }


def status(reason: chat_pb2.FinishReason.ValueType) -> tuple[str, str]:
    """An answer's status, and the reason when it is `incomplete`."""
    if reason == chat_pb2.FINISH_REASON_ERROR:
        return "failed", ""
    incomplete = _INCOMPLETE.get(reason, "")
    return ("incomplete", incomplete) if incomplete else ("completed", "")


def broken(native: str) -> dict[str, str]:
    """The error of an answer that its provider says went wrong."""
    return {"code": "server_error", "message": f"the provider ended the answer with `{native or 'error'}`"}


def failure(error: GatewayError) -> dict[str, str]:
    """The error of an answer that was cut off, in the codes that the SDKs know."""
    return {"code": _CODES.get(error.reason.name, "server_error"), "message": error.message}


def usage(tokens: tokens_pb2.TokenUsage, dialect: message_pb2.Dialect.ValueType) -> Any:  # JSON
    """The `usage` object; the provider's own, unchanged, where it speaks this dialect."""
    if tokens.native_json and dialect == DIALECT:
        return fragment(tokens.native_json)
    prompt = prompt_tokens(tokens)
    written = tokens.output_text + tokens.output_reasoning
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": tokens.input_cache_read,
            "cache_write_tokens": tokens.input_cache_write_5m + tokens.input_cache_write_1h,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": tokens.output_reasoning},
        "total_tokens": prompt + written,
    }
