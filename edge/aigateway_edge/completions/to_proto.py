"""A legacy completions request body to the call that the gateway carries.

What continues a text at the level of tokens (several prompts, token ids, `suffix`, `logprobs`, `best_of`) chat models
have nothing like: it is refused by name. Not for headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_edge.fields import parse
from aigateway_edge.openai import options
from aigateway_edge.openai.to_proto import include_usage, provider_options

if TYPE_CHECKING:
    from aigateway_edge.fields import Fields

_prompt: Final[msgspec.json.Decoder[str | list[str | int | list[int]] | None]] = msgspec.json.Decoder(
    str | list[str | int | list[int]] | None
)


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A completions request."""

    call: chat_pb2.ChatCall
    stream: bool
    """The caller wants a stream."""
    before: str
    """What the caller wants repeated before the answer: the prompt, with `echo`."""


def completion_call(body: bytes) -> ParsedCompletion:
    """A completions request.

    Raises:
        GatewayError: INVALID_REQUEST or UNSUPPORTED, naming the field.
    """
    request = parse(body)
    model = request.required_text("model")
    prompt = _one_prompt(request)
    echo = request.boolean("echo") or False
    stream = request.boolean("stream") or False
    _refuse(request)
    part = message_pb2.Part(text=message_pb2.TextPart(text=prompt))
    message = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[part], content_shape=message_pb2.CONTENT_SHAPE_STRING
    )
    call = chat_pb2.ChatCall(
        model=model,
        messages=[message],
        options=options.generation(request),
        user=request.text("user") or "",
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
        provider_options=provider_options(request),
        include_usage=include_usage(request, stream=stream),
        extra_json=request.rest(),  # last: what nobody above took
    )
    return ParsedCompletion(call, stream, prompt if echo else "")


def _one_prompt(request: Fields) -> str:
    value = request.take("prompt", _prompt, "a string")
    match value:
        case str() if value:
            return value
        case [str() as only] if only:
            return only
        case None | "" | [] | [""]:
            raise invalid("prompt", "`prompt` is required and must be a string that is not empty")
        case [str(), *_]:
            raise _unsupported("prompt", "one prompt at a time; send a request for each")
        case _:
            raise _unsupported("prompt", "token ids mean nothing to other models; send text")


def _refuse(request: Fields) -> None:
    if request.text("suffix"):
        raise _unsupported("suffix", "chat models cannot write towards what follows; leave it out")
    if request.integer("logprobs", 0, 5) is not None:
        raise _unsupported("logprobs", "not available for this legacy route; use `/v1/chat/completions`")
    best = request.integer("best_of", 1, 20)
    if best not in {None, 1}:
        raise _unsupported("best_of", "chat models give no ranking; ask for `n` answers instead")


def _unsupported(field: str, advice: str) -> GatewayError:
    return GatewayError("UNSUPPORTED", f"`{field}`: {advice}", details={"param": field})
