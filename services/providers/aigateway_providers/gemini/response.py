"""A whole answer of `generateContent` as a `ChatCompletion`, and what streams share with it.

Pure. Parts keep their order and their thought signatures; what has no neutral form stays native, whole.
"""

from __future__ import annotations

import uuid
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_providers.gemini import wire
from aigateway_providers.gemini.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from msgspec import Raw

_STOP: Final = chat_pb2.FINISH_REASON_STOP
_FILTER: Final = chat_pb2.FINISH_REASON_CONTENT_FILTER
_ERROR: Final = chat_pb2.FINISH_REASON_ERROR

FINISH_REASONS: Final[Mapping[str, chat_pb2.FinishReason.ValueType]] = {
    "STOP": _STOP,
    "MAX_TOKENS": chat_pb2.FINISH_REASON_LENGTH,
    "SAFETY": _FILTER,
    "RECITATION": _FILTER,
    "BLOCKLIST": _FILTER,
    "PROHIBITED_CONTENT": _FILTER,
    "SPII": _FILTER,
    "IMAGE_SAFETY": _FILTER,
    "IMAGE_PROHIBITED_CONTENT": _FILTER,
    "IMAGE_RECITATION": _FILTER,
    "MALFORMED_FUNCTION_CALL": _ERROR,
    "MALFORMED_RESPONSE": _ERROR,
    "UNEXPECTED_TOOL_CALL": _ERROR,
    "TOO_MANY_TOOL_CALLS": _ERROR,
    "MISSING_THOUGHT_SIGNATURE": _ERROR,
    "LANGUAGE": _ERROR,
    "NO_IMAGE": _ERROR,
    "IMAGE_OTHER": _ERROR,
}
"""https://ai.google.dev/api/generate-content#FinishReason; a word not listed counts as a plain stop."""
BLOCK_REASONS: Final = frozenset({"OTHER", "BLOCK_REASON_UNSPECIFIED", "MODEL_ARMOR", "JAILBREAK"})
"""Words for a refused prompt beyond those above; `OTHER` ends answers, too."""

ANSWER_FIELDS: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
"""Fields of an answer that have a neutral form."""
CANDIDATE_FIELDS: Final = frozenset({"content", "finishReason", "index", "logprobsResult"})
"""Fields of a candidate that have a neutral form."""
PART_FIELDS: Final = frozenset({"text", "thought", "thoughtSignature", "functionCall", "inlineData"})
"""Fields of a part that have a neutral form."""
_CONTENT: Final = frozenset({"text", "functionCall", "inlineData"})


class _Blob(msgspec.Struct, rename="camel"):
    data: bytes = b""
    mime_type: str = ""


def completion(
    body: bytes, *, model: str, created: int, notes: Sequence[chat_pb2.TranslationNote]
) -> chat_pb2.ChatCompletion:
    """The answer.

    Args:
        body: The JSON of the answer.
        model: The name that was asked, where the answer does not say.
        created: Seconds since the Unix epoch.
        notes: The translation report.

    Raises:
        msgspec.DecodeError: The JSON is not an answer.
    """
    answer = wire.fields(wire.compact(body))
    usage = Usage()
    if "usageMetadata" in answer:
        usage.see(answer["usageMetadata"])
    choices = [choice(candidate) for candidate in wire.objects(answer.get("candidates"))]
    if not choices:
        choices = [_blocked(block_reason(answer))]
    return chat_pb2.ChatCompletion(
        id=answer_id(answer),
        created=created,
        model=wire.text(answer.get("modelVersion")) or model,
        choices=choices,
        usage=usage.proto(),
        translation=notes,
        dialect=wire.DIALECT,
        extra_json=wire.rest(answer, ANSWER_FIELDS),
    )


def answer_id(answer: Mapping[str, Raw]) -> str:
    """The answer's id, or a new one."""
    return wire.text(answer.get("responseId")) or f"gemini-{uuid.uuid4().hex}"


def block_reason(answer: Mapping[str, Raw]) -> str:
    """Why the prompt was refused.

    Raises:
        msgspec.ValidationError: It was not; then an answer without candidates is none.
    """
    feedback = wire.fields(answer["promptFeedback"]) if "promptFeedback" in answer else {}
    if reason := wire.text(feedback.get("blockReason")):
        return reason
    raise msgspec.ValidationError("neither candidates nor a block reason")


def _blocked(reason: str) -> chat_pb2.Choice:
    return chat_pb2.Choice(
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT),
        finish_reason=_FILTER,
        native_finish_reason=reason,
    )


def choice(candidate: Mapping[str, Raw]) -> chat_pb2.Choice:
    """One candidate."""
    parts = [made for raw in content_parts(candidate) if (made := part(raw)) is not None]
    native = wire.text(candidate.get("finishReason"))
    called = any(made.WhichOneof("kind") == "tool_call" for made in parts)
    return chat_pb2.Choice(
        index=wire.place(candidate.get("index")),
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts),
        finish_reason=finish_reason(native, called=called),
        native_finish_reason=native,
        logprobs_json=logprobs(candidate.get("logprobsResult")),
        extra_json=wire.rest(candidate, CANDIDATE_FIELDS),
    )


def finish_reason(native: str, *, called: bool) -> chat_pb2.FinishReason.ValueType:
    """The neutral reason; a turn that calls tools ends with STOP in Gemini's words."""
    reason = FINISH_REASONS.get(native, _STOP)
    return chat_pb2.FINISH_REASON_TOOL_CALLS if called and reason == _STOP else reason


def content_parts(candidate: Mapping[str, Raw]) -> list[Raw]:
    """The parts of a candidate; a blocked one has none."""
    return wire.values(wire.fields(candidate["content"]).get("parts")) if "content" in candidate else []


def part(raw: Raw) -> message_pb2.Part | None:
    """One part; None for an empty text that says nothing."""
    source = wire.fields(raw)
    signature = wire.text(source.get("thoughtSignature"))
    if is_native(source):
        return message_pb2.Part(native=native(raw))
    made = message_pb2.Part(extra_json=wire.rest(source, PART_FIELDS))
    if signature:
        made.provider_state.CopyFrom(state(signature))
    if "functionCall" in source:
        made.tool_call.CopyFrom(tool_call(source["functionCall"]))
    elif "inlineData" in source:
        _inline(made, source["inlineData"])
    elif wire.flag(source.get("thought")):
        made.reasoning.text = wire.text(source.get("text"))
        made.reasoning.summary = True  # the API shows summaries of thoughts, never the thoughts
    else:
        made.text.text = wire.text(source.get("text"))
        if not signature and not made.text.text:
            return None
    return made


def is_native(source: Mapping[str, Raw]) -> bool:
    """Whether only Gemini understands the part: code that it ran, its own tools, a sketch among its thoughts.

    A bare thought signature is not: it counts as one with an empty text.
    """
    if "inlineData" in source:
        return wire.flag(source.get("thought"))
    return _CONTENT.isdisjoint(source) and not source.keys() <= {"thoughtSignature", "thought"}


def native(raw: Raw) -> message_pb2.NativePart:
    """A part that only Gemini understands, whole."""
    return message_pb2.NativePart(dialect=wire.DIALECT, json=bytes(raw))


def state(signature: str) -> message_pb2.ProviderState:
    """A thought signature, exactly as it was on the wire."""
    return message_pb2.ProviderState(provider=wire.KIND, state=signature.encode())


def tool_call(raw: Raw) -> message_pb2.ToolCall:
    """A function call; one without an id gets an id that no other call has."""
    source = wire.fields(raw)
    args = source.get("args")
    return message_pb2.ToolCall(
        id=wire.text(source.get("id")) or f"call_{uuid.uuid4().hex[:24]}",
        name=wire.text(source.get("name")),
        arguments=bytes(args) if args is not None else b"{}",
        type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
    )


def blob(raw: Raw) -> message_pb2.Media:
    """The bytes of a picture or sound."""
    found = msgspec.json.decode(raw, type=_Blob)
    return message_pb2.Media(data=found.data, media_type=found.mime_type)


def _inline(made: message_pb2.Part, raw: Raw) -> None:
    media = blob(raw)
    if media.media_type.startswith("image/"):
        made.image.media.CopyFrom(media)
    elif media.media_type.startswith("audio/"):
        made.audio.media.CopyFrom(media)
    else:
        made.file.media.CopyFrom(media)


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0

    def openai(self) -> dict[str, Any]:
        """The token as OpenAI writes it."""
        return {"token": self.token, "logprob": self.log_probability, "bytes": list(self.token.encode())}


class _Step(msgspec.Struct):
    candidates: list[_Token] = []


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Step] = []


def logprobs(raw: Raw | None) -> bytes:
    """Gemini's `logprobsResult` as OpenAI's `logprobs` object; empty when absent."""
    if raw is None:
        return b""
    found = msgspec.json.decode(raw, type=_Logprobs)
    steps = chain(found.top_candidates, repeat(_Step()))
    content = [
        chosen.openai() | {"top_logprobs": [other.openai() for other in step.candidates]}
        for chosen, step in zip(found.chosen_candidates, steps, strict=False)
    ]
    return orjson.dumps({"content": content, "refusal": None})
