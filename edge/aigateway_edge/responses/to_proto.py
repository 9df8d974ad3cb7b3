"""A Responses request body to the call that the gateway carries, and what the answer repeats of it.

What asks for nothing that another provider lacks (`store: false`, `include`, `metadata`…) goes to OpenAI alone, as its
provider options; everything else without a neutral form is in `extra_json`. Not for headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_edge.fields import parse
from aigateway_edge.openai.options import EFFORTS, MAX_TOKENS
from aigateway_edge.openai.to_proto import provider_options
from aigateway_edge.responses.content import DIALECT
from aigateway_edge.responses.conversation import messages
from aigateway_edge.responses.tools import tool_choice, tools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_edge.fields import Fields

_REFUSED: Final[Mapping[str, str]] = {
    "previous_response_id": "this gateway stores no responses: send the whole conversation in `input`",
    "conversation": "this gateway stores no conversations: send the whole conversation in `input`",
    "prompt": "this gateway stores no prompts: send the text in `instructions` and `input`",
}
_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""What an answer repeats of its request, and says where the request left it out."""
_HARMLESS: Final[Mapping[str, bytes]] = {"store": b"false", "truncation": b'"disabled"'}
"""Values that ask for nothing."""
_PLACE: Final = re.compile(r"\bmessages\[(\d{1,9})\]")
_LOGPROBS: Final = "message.output_text.logprobs"

_strings: Final[msgspec.json.Decoder[list[str] | None]] = msgspec.json.Decoder(list[str] | None)
_metadata: Final[msgspec.json.Decoder[dict[str, str] | None]] = msgspec.json.Decoder(dict[str, str] | None)


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A Responses request."""

    call: chat_pb2.ChatCall
    stream: bool
    """The caller wants a stream."""
    echo: dict[str, Any]
    """The fields that the answer repeats."""
    origins: list[str]
    """Where each message of the call begins in the request, such as `input[2]`."""

    def renamed(self, text: str) -> str:
        """`text` with the paths of the call's messages as those of the caller's items."""
        return _PLACE.sub(lambda found: self._origin(found[0], int(found[1])), text)

    def _origin(self, path: str, index: int) -> str:
        return self.origins[index] if index < len(self.origins) else path


def response_call(body: bytes) -> ParsedResponse:
    """A Responses request.

    Raises:
        GatewayError: INVALID_REQUEST or UNSUPPORTED, naming the field.
    """
    request = parse(body)
    echo = _echo(request)
    model = request.required_text("model")
    _refuse_state(request)
    stream = request.boolean("stream") or False
    for_openai = _for_openai(request, stream=stream)
    options = _options(request, for_openai)
    conversation, origins = messages(request)
    offered = tools(request)
    chosen = provider_options(request)
    if for_openai:
        chosen["openai"] = _joined(for_openai, chosen.get("openai", b""))
    call = chat_pb2.ChatCall(
        model=model,
        messages=conversation,
        tools=offered,
        tool_choice=tool_choice(request, offered),
        parallel_tool_calls=request.boolean("parallel_tool_calls"),
        options=options,
        response_format=_format(request),
        reasoning=_reasoning(request),
        user=request.text("user") or "",
        dialect=DIALECT,
        provider_options=chosen,
        extra_json=request.rest(),  # last: what nobody above took
    )
    return ParsedResponse(call, stream, echo, origins)


def _echo(request: Fields) -> dict[str, Any]:
    found = dict(_ECHOED)
    for key in found:
        value = request.peek(key)
        if value not in (b"", b"null"):
            found[key] = orjson.Fragment(value)
    return found


def _refuse_state(request: Fields) -> None:
    """Refuse what needs a memory; null, false and `store` ask for none of the gateway's."""
    for key, advice in _REFUSED.items():
        if request.raw(key) is not None:
            raise GatewayError("UNSUPPORTED", f"`{key}`: {advice}", details={"param": key})
    if request.boolean("background"):
        raise GatewayError(
            "UNSUPPORTED",
            "`background`: this gateway stores no responses to fetch later; leave it out, or use `stream`",
            details={"param": "background"},
        )


def _for_openai(request: Fields, *, stream: bool) -> dict[str, Any]:
    """Fields that only OpenAI reads and nobody else lacks, by name."""
    found: dict[str, Any] = {}
    include = request.peek("include")
    if request.take("include", _strings, "a list of strings") is not None:
        found["include"] = orjson.Fragment(include)
    metadata = request.peek("metadata")
    if request.take("metadata", _metadata, "an object with string values") is not None:
        found["metadata"] = orjson.Fragment(metadata)
    for key, harmless in _HARMLESS.items():
        value = request.peek(key)
        if value in (harmless, b"null"):
            request.raw(key)
        if value == harmless:
            found[key] = orjson.Fragment(value)
    if (options := request.object_json("stream_options")) is not None:
        if not stream:
            raise invalid("stream_options", "`stream_options` is only allowed when `stream` is true")
        found["stream_options"] = orjson.Fragment(options)
    return found


def _joined(fields: dict[str, Any], given: bytes) -> bytes:
    """Provider options with more fields; the caller's own win."""
    if not given:
        return orjson.dumps(fields)
    own = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
    return orjson.dumps(fields | {key: orjson.Fragment(bytes(raw)) for key, raw in own.items()})


def _options(request: Fields, for_openai: Mapping[str, Any]) -> chat_pb2.GenerationOptions:
    top = request.integer("top_logprobs", 0, 20)
    wanted = bool(top) or _LOGPROBS in _included(for_openai)
    return chat_pb2.GenerationOptions(
        max_output_tokens=request.integer("max_output_tokens", 1, MAX_TOKENS),
        temperature=request.number("temperature", 0, 2),
        top_p=request.number("top_p", 0, 1),
        logprobs=True if wanted else None,
        top_logprobs=top,
    )


def _included(for_openai: Mapping[str, Any]) -> list[str]:
    include = for_openai.get("include")
    return [] if include is None else _strings.decode(orjson.dumps(include)) or []


def _format(request: Fields) -> chat_pb2.ResponseFormat | None:
    text = request.child("text")
    if text is None:
        return None
    fields = text.child("format")
    found = None if fields is None else _typed(fields)
    request.put_back("text", text)  # `verbosity`, for one
    return found


def _typed(fields: Fields) -> chat_pb2.ResponseFormat:
    kind = fields.one_of("type", ("text", "json_object", "json_schema"))
    if kind == "text":
        return chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_TEXT, extra_json=fields.rest())
    if kind == "json_object":
        return chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT, extra_json=fields.rest())
    if kind is None:
        raise invalid(fields.at("type"), f"`{fields.at('type')}` is required")
    schema = fields.object_json("schema")
    if schema is None:
        raise invalid(fields.at("schema"), f"`{fields.at('schema')}` is required and must be an object")
    return chat_pb2.ResponseFormat(
        type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
        name=fields.required_text("name"),
        description=fields.text("description") or "",
        schema_json=schema,
        strict=fields.boolean("strict"),
        extra_json=fields.rest(),
    )


def _reasoning(request: Fields) -> chat_pb2.ReasoningOptions | None:
    fields = request.child("reasoning")
    if fields is None:
        return None
    effort = fields.one_of("effort", EFFORTS)
    summary = fields.text("summary") or fields.text("generate_summary")
    request.put_back("reasoning", fields)
    if not (effort or summary):
        return None
    return chat_pb2.ReasoningOptions(effort=effort or "", summary=summary or "")
