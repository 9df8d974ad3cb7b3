"""An OpenAI request body to the call that the gateway carries.

Typed fields go where the contract has a place for them; all others stay JSON, in the `extra_json` of the level they
were found on. Not for headers: the caller of these functions knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2
from aigateway_common.errors import invalid

from aigateway_edge.fields import parse
from aigateway_edge.openai import options
from aigateway_edge.openai.messages import Conversation
from aigateway_edge.openai.parts import cache_control
from aigateway_edge.openai.tools import tool_choice, tools

if TYPE_CHECKING:
    from aigateway_edge.fields import Fields

_INT32: Final = 2**31 - 1

_text_input: Final[msgspec.json.Decoder[str | list[str | int | list[int]] | None]] = msgspec.json.Decoder(
    str | list[str | int | list[int]] | None
)


@dataclass(frozen=True, slots=True)
class ParsedChat:
    """A chat request."""

    call: chat_pb2.ChatCall
    stream: bool
    """The caller wants a stream."""
    legacy_functions: bool
    """The caller wrote `functions`, and so reads `function_call` in the answer."""


@dataclass(frozen=True, slots=True)
class ParsedEmbed:
    """An embeddings request."""

    call: embedding_pb2.EmbedCall
    base64: bool
    """The caller wants each vector as base64 of little-endian float32."""


def chat_call(body: bytes) -> ParsedChat:
    """A chat completions request.

    Raises:
        GatewayError: INVALID_REQUEST, naming the field.
    """
    request = parse(body)
    model = request.required_text("model")
    messages = request.children("messages")
    if not messages:
        raise invalid("messages", "`messages` is required and must not be empty")
    conversation = Conversation()
    read = [conversation.read(message) for message in messages]
    stream = request.boolean("stream") or False
    generation = options.generation(request)
    if request.empty:  # as for most calls: nothing below is asked for
        plain = chat_pb2.ChatCall(model=model, dialect=message_pb2.DIALECT_OPENAI_CHAT)
        plain.messages.extend(read)  # given to the constructor, each of them would be written out and parsed
        plain.options.CopyFrom(generation)
        return ParsedChat(plain, stream, legacy_functions=False)
    legacy = request.has("functions")
    offered = tools(request)
    call = chat_pb2.ChatCall(
        model=model,
        messages=read,
        tools=offered,
        tool_choice=tool_choice(request, offered),
        parallel_tool_calls=request.boolean("parallel_tool_calls"),
        options=generation,
        response_format=options.response_format(request),
        reasoning=options.reasoning(request),
        user=request.text("user") or "",
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
        provider_options=provider_options(request),
        include_usage=include_usage(request, stream=stream),
        cache_control=cache_control(request),
        extra_json=request.rest(),  # last: what nobody above took
    )
    return ParsedChat(call, stream, legacy)


def embed_call(body: bytes) -> ParsedEmbed:
    """An embeddings request.

    Raises:
        GatewayError: INVALID_REQUEST, naming the field.
    """
    request = parse(body)
    model = request.required_text("model")
    value = request.take("input", _text_input, "a string, a list of strings, or one or more lists of token ids")
    inputs, single = _inputs(value)
    base64 = request.one_of("encoding_format", ("float", "base64")) == "base64"
    call = embedding_pb2.EmbedCall(
        model=model,
        inputs=inputs,
        single_input=single,
        decimals=not base64,
        dimensions=request.integer("dimensions", 1, _INT32),
        user=request.text("user") or "",
        dialect=message_pb2.DIALECT_OPENAI_CHAT,
        provider_options=provider_options(request),
        extra_json=request.rest(),
    )
    return ParsedEmbed(call, base64)


def include_usage(request: Fields, *, stream: bool) -> bool:
    """Whether the caller wants usage inside the stream; the other stream options stay."""
    fields = request.child("stream_options")
    if fields is None:
        return False
    if not stream:
        raise invalid("stream_options", "`stream_options` is only allowed when `stream` is true")
    include = fields.boolean("include_usage") or False
    request.put_back("stream_options", fields)
    return include


def provider_options(request: Fields) -> dict[str, bytes]:
    """Fields for one provider's own request, by provider name."""
    fields = request.child("provider_options")
    if fields is None:
        return {}
    found = ((name, fields.object_json(name)) for name in fields.keys())  # noqa: SIM118 # Fields is no dict
    return {name: json for name, json in found if json is not None}


def _inputs(value: str | list[str | int | list[int]] | None) -> tuple[list[embedding_pb2.EmbeddingInput], bool]:
    """The texts or token lists, and whether the caller gave just one of them."""
    if isinstance(value, str):
        return [embedding_pb2.EmbeddingInput(text=_not_empty(value, "input"))], True
    if not value:
        raise invalid("input", "`input` is required and must not be empty")
    if isinstance(value[0], int):
        return [_tokens(value, "input")], True
    return [_input(item, f"input[{index}]", type(value[0])) for index, item in enumerate(value)], False


def _input(item: str | int | list[int], path: str, kind: type) -> embedding_pb2.EmbeddingInput:
    if type(item) is not kind:
        raise invalid(path, f"`{path}` has the wrong type: `input` must not mix strings and token lists")
    if isinstance(item, str):
        return embedding_pb2.EmbeddingInput(text=_not_empty(item, path))
    return _tokens(item, path)


def _not_empty(text: str, path: str) -> str:
    if not text:
        raise invalid(path, f"`{path}` must not be an empty string")
    return text


def _tokens(value: object, path: str) -> embedding_pb2.EmbeddingInput:
    if not isinstance(value, list) or not value or not all(type(t) is int and 0 <= t <= _INT32 for t in value):
        raise invalid(path, f"`{path}` must be a list of token ids that is not empty")
    return embedding_pb2.EmbeddingInput(tokens=embedding_pb2.TokenIds(ids=value))
