"""Output items of a Responses answer, as JSON objects; the same for whole answers and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import message_pb2

from aigateway_edge.responses.state import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]


class _Logprobs(msgspec.Struct):
    """OpenAI's `logprobs` object of a chat choice."""

    content: list[msgspec.Raw] | None = None


_logprobs: Final[msgspec.json.Decoder[_Logprobs | None]] = msgspec.json.Decoder(_Logprobs | None)
_members: Final[msgspec.json.Decoder[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fragment(json: bytes) -> Any:  # any JSON
    """JSON as it was written."""
    return orjson.Fragment(json)


def members(json: bytes) -> Json:
    """The members of an object, each as it was written."""
    return {key: fragment(bytes(raw)) for key, raw in _members.decode(json).items()} if json else {}


def logprobs(json: bytes) -> list[Any]:
    """The tokens of a `logprobs` object."""
    found = _logprobs.decode(json) if json else None
    return [fragment(bytes(raw)) for raw in found.content or ()] if found else []


def text(said: str, tokens: Sequence[Any] = (), annotations: Sequence[Json] = ()) -> Json:
    """A text of a message."""
    return {"type": "output_text", "text": said, "annotations": list(annotations), "logprobs": list(tokens)}


def refusal(said: str) -> Json:
    """A refusal in a message."""
    return {"type": "refusal", "refusal": said}


def message(item_id: str, pieces: list[Json], status: str) -> Json:
    """What the model says."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": pieces}


def call(item_id: str, wish: message_pb2.ToolCall, arguments: str, status: str) -> Json:
    """The model's wish to call a tool."""
    item: Json = {"id": item_id, "call_id": wish.id, "name": wish.name, "status": status}
    if wish.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
        return {"type": "custom_tool_call", "input": arguments} | item
    return {"type": "function_call", "arguments": arguments} | item


def call_prefix(kind: message_pb2.ToolCallType.ValueType) -> str:
    """How the id of a call's item begins."""
    return "ctc" if kind == message_pb2.TOOL_CALL_TYPE_CUSTOM else "fc"


def reasoning(item_id: str, part: message_pb2.ReasoningPart, state: message_pb2.ProviderState | None) -> Json:
    """The model's reasoning, with what its provider needs to go on from it."""
    item: Json = {"id": item_id, "type": "reasoning", "summary": []}
    if part.text and part.summary:
        item["summary"] = [{"type": "summary_text", "text": part.text}]
    elif part.text:
        item["content"] = [{"type": "reasoning_text", "text": part.text}]
    if state is not None or part.redacted:
        item["encrypted_content"] = pack(state, redacted=part.redacted)
    return item


def state_of_call(item_id: str, state: message_pb2.ProviderState, call_id: str) -> Json:
    """A reasoning item that only carries the state of a tool call."""
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": pack(state, call=call_id)}


def state_of_text(item_id: str, state: message_pb2.ProviderState) -> Json:
    """A reasoning item that only carries the state of the text before it."""
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": pack(state, before=True)}
