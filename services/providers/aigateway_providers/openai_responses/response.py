"""A whole answer of `POST /responses`, and what it shares with streams; pure.

https://platform.openai.com/docs/api-reference/responses/object. Each output item becomes the parts it stands for, in
order, and nothing of it is lost: a message's pieces are text or refusal parts, whose `extra_json` has the piece's other
fields and, beside them, the item's `id`, `status` and `phase`; a reasoning item is one reasoning part whose state is
the whole item; a tool call keeps its other fields as `extra_json`; any other item is native.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers import splice
from aigateway_providers.openai_compat.errors import from_event
from aigateway_providers.openai_responses.usage import to_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aigateway.v1 import tokens_pb2

DIALECT: Final = message_pb2.DIALECT_OPENAI_RESPONSES
ITEM_FIELDS: Final = ("id", "status", "phase")
"""Fields of a message item that are kept beside those of its pieces, as no piece has them."""
CALLS: Final[Mapping[str, tuple[str, message_pb2.ToolCallType.ValueType]]] = {
    "function_call": ("arguments", message_pb2.TOOL_CALL_TYPE_FUNCTION),
    "custom_tool_call": ("input", message_pb2.TOOL_CALL_TYPE_CUSTOM),
}
"""Items that call a tool of the caller's: where the arguments are, and the kind of tool."""
PIECES: Final[Mapping[str, str]] = {"output_text": "text", "refusal": "refusal"}
"""Pieces of a message that have a neutral form: where their words are."""
NEUTRAL: Final = ("id", "object", "created_at", "model", "output", "usage")
"""Fields of the answer that have a neutral form."""
NULL: Final = b"null"

Raw = dict[str, msgspec.Raw]
Fields = dict[str, bytes]


class Text(msgspec.Struct):
    """A piece of text inside an item."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[Raw] | None = None


class Item(msgspec.Struct):
    """What any output item may have that the gateway reads."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(NULL)
    input: msgspec.Raw = msgspec.Raw(NULL)
    content: list[msgspec.Raw] | None = None
    summary: list[Text] | None = None
    encrypted_content: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class Answer(msgspec.Struct):
    """What the gateway reads of a response object."""

    id: str = ""
    model: str = ""
    created_at: float = 0
    status: str = "completed"
    output: list[msgspec.Raw] = []
    error: msgspec.Raw = msgspec.Raw(NULL)
    incomplete_details: _Incomplete | None = None
    usage: msgspec.Raw = msgspec.Raw(NULL)


_ANSWER: Final = msgspec.json.Decoder(Answer)
_ITEM: Final = msgspec.json.Decoder(Item)
_TEXT: Final = msgspec.json.Decoder(Text)
_TOKENS: Final[msgspec.json.Decoder[list[Raw] | None]] = msgspec.json.Decoder(list[Raw] | None)
_INCOMPLETE: Final[Mapping[str, chat_pb2.FinishReason.ValueType]] = {
    "max_output_tokens": chat_pb2.FINISH_REASON_LENGTH,
    "max_tokens": chat_pb2.FINISH_REASON_LENGTH,
    "max_tool_calls": chat_pb2.FINISH_REASON_LENGTH,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
}


def to_completion(
    content: bytes, notes: Iterable[chat_pb2.TranslationNote], *, provider: str
) -> chat_pb2.ChatCompletion:
    """The answer.

    Raises:
        GatewayError: the provider says that it failed.
        ValueError: it is not a response object.
    """
    answer = read_answer(content)
    check(answer, provider)
    parts = [part for raw in answer.output for part in to_parts(bytes(raw), provider)]
    tokens = [token for raw in answer.output for token in _item_tokens(bytes(raw))]
    calls = any(part.HasField("tool_call") for part in parts)
    choice = chat_pb2.Choice(
        message=message_pb2.Message(
            role=message_pb2.ROLE_ASSISTANT, parts=parts, content_shape=message_pb2.CONTENT_SHAPE_LIST
        ),
        finish_reason=finish_reason(answer, calls=calls),
        native_finish_reason=native_reason(answer),
        logprobs_json=logprobs(tokens),
    )
    return chat_pb2.ChatCompletion(
        id=answer.id,
        created=int(answer.created_at),
        model=answer.model,
        choices=[choice],
        usage=usage_of(answer),
        translation=notes,
        dialect=DIALECT,
        extra_json=answer_extra(content),
    )


def read_answer(raw: bytes) -> Answer:
    """A response object. Raises ValueError when it is none."""
    answer = _ANSWER.decode(raw)
    if not answer.id:
        raise ValueError("no id")
    return answer


def answer_extra(raw: bytes) -> bytes:
    """The fields of a response object that have no neutral form."""
    return rest(splice.members(raw, "response"), NEUTRAL)


def check(answer: Answer, provider: str) -> None:
    """Raise the failure that a response object tells of.

    Raises:
        GatewayError: by the code it gives.
    """
    if answer.status == "failed" or bytes(answer.error) != NULL:
        raise from_event(provider, orjson.loads(bytes(answer.error)) or {"message": "the response failed"})


def finish_reason(answer: Answer, *, calls: bool) -> chat_pb2.FinishReason.ValueType:
    """Why the model stopped, by the answer's status."""
    match answer.status:
        case "incomplete":
            details = answer.incomplete_details
            return _INCOMPLETE.get((details and details.reason) or "", chat_pb2.FINISH_REASON_LENGTH)
        case "cancelled":
            return chat_pb2.FINISH_REASON_ERROR
        case "queued" | "in_progress":
            return chat_pb2.FINISH_REASON_PAUSE
        case _:
            return chat_pb2.FINISH_REASON_TOOL_CALLS if calls else chat_pb2.FINISH_REASON_STOP


def native_reason(answer: Answer) -> str:
    """The provider's own word: the reason of an incomplete answer, else the status."""
    details = answer.incomplete_details
    return (details and details.reason) or answer.status


def usage_of(answer: Answer) -> tokens_pb2.TokenUsage | None:
    """The tokens; None when the answer has none."""
    return None if bytes(answer.usage) == NULL else to_usage(bytes(answer.usage))


def read_item(raw: bytes) -> Item:
    """An output item. Raises ValueError when it is none."""
    return _ITEM.decode(raw)


def to_parts(raw: bytes, provider: str) -> list[message_pb2.Part]:
    """The parts of one output item. Raises ValueError when it is not an object."""
    item = read_item(raw)
    if item.type in CALLS:
        return [_tool_call(item, raw)]
    if item.type == "reasoning":
        return [_reasoning(item, raw, provider)]
    if item.type == "message" and item.content:
        pieces = [bytes(piece) for piece in item.content]
        if any(_TEXT.decode(piece).type in PIECES for piece in pieces):
            extra = message_extra(raw)
            return [piece_part(piece, extra) for piece in pieces]
    return [message_pb2.Part(native=message_pb2.NativePart(dialect=DIALECT, json=raw))]


def message_extra(raw: bytes) -> Fields:
    """The fields of a message item beside its pieces, as its parts carry them."""
    fields = splice.members(raw, "message")
    own: Fields = {key: fields[key] for key in ITEM_FIELDS if key in fields}
    others = {k: v for k, v in fields.items() if k not in own and k not in {"type", "role", "content"}}
    return own | {"item": rest(others, ())} if others else own


def piece_part(raw: bytes, item: Fields) -> message_pb2.Part:
    """The part of one piece of a message; native when it is neither text nor a refusal."""
    piece = _TEXT.decode(raw)
    if piece.type not in PIECES:
        native = message_pb2.NativePart(dialect=DIALECT, json=raw)
        return message_pb2.Part(native=native, extra_json=rest(item, ()))
    fields = splice.members(raw, "piece")
    extra = rest(item | fields, ("type", PIECES[piece.type]))
    if piece.type == "refusal":
        return message_pb2.Part(refusal=message_pb2.RefusalPart(text=piece.refusal or ""), extra_json=extra)
    return message_pb2.Part(text=message_pb2.TextPart(text=piece.text or ""), extra_json=extra)


def logprobs(tokens: Sequence[Raw] | None) -> bytes:
    """The tokens of a text as OpenAI's `logprobs` object of a chat choice; empty when there are none.

    The tokens are the same in both APIs, but for fields that chat has always and stream events leave out.
    """
    if not tokens:
        return b""
    return orjson.dumps({"content": [_token(token) for token in tokens], "refusal": None})


def call_arguments(item: Item) -> str:
    """A tool call's arguments as the model wrote them, empty when there are none yet."""
    raw = bytes(getattr(item, CALLS[item.type][0]))
    if raw == NULL:
        return ""
    value = orjson.loads(raw)
    return value if isinstance(value, str) else raw.decode()


def reasoning_text(item: Item) -> str:
    """What a reasoning item shows: its summaries, then its text, with blank lines between."""
    texts = [part.text or "" for part in item.summary or ()]
    texts += [_TEXT.decode(piece).text or "" for piece in item.content or ()]
    return "\n\n".join(texts)


def item_state(raw: bytes, provider: str) -> message_pb2.ProviderState:
    """A reasoning item, whole, to be sent back next turn."""
    return message_pb2.ProviderState(provider=provider, state=raw)


def rest(fields: Mapping[str, bytes], known: Iterable[str]) -> bytes:
    """The fields that are not `known`, as one JSON object; empty when there are none."""
    others = {key: orjson.Fragment(value) for key, value in fields.items() if key not in known}
    return orjson.dumps(others) if others else b""


def _item_tokens(raw: bytes) -> list[Raw]:
    item = read_item(raw)
    pieces = [_TEXT.decode(piece) for piece in item.content or ()] if item.type == "message" else []
    return [token for piece in pieces for token in piece.logprobs or ()]


def _token(token: Raw) -> dict[str, Any]:
    others = _TOKENS.decode(token.get("top_logprobs", b"[]")) or ()
    return _spelled(token) | {"top_logprobs": [_spelled(other) for other in others]}


def _spelled(token: Raw) -> dict[str, Any]:
    return {"bytes": None} | {key: orjson.Fragment(bytes(raw)) for key, raw in token.items()}


def _tool_call(item: Item, raw: bytes) -> message_pb2.Part:
    field, kind = CALLS[item.type]
    call = message_pb2.ToolCall(
        id=item.call_id or item.id or "", name=item.name or "", arguments=call_arguments(item).encode(), type=kind
    )
    extra = rest(splice.members(raw, "item"), ("type", "call_id", "name", field))
    return message_pb2.Part(tool_call=call, extra_json=extra)


def _reasoning(item: Item, raw: bytes, provider: str) -> message_pb2.Part:
    text = reasoning_text(item)
    reasoning = message_pb2.ReasoningPart(
        text=text, summary=bool(item.summary) and not item.content, redacted=not text and bool(item.encrypted_content)
    )
    return message_pb2.Part(reasoning=reasoning, provider_state=item_state(raw, provider))
