"""Whole answers in Anthropic's shape, as the bytes of the HTTP body.

What a provider of this dialect sent comes back field by field; other providers' answers are told in blocks that every
client of the dialect knows, and what has no such block is told as notes. Not for streams: see `events`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge import citations
from aigateway_edge.anthropic import answers, carriers

if TYPE_CHECKING:
    from collections.abc import Iterable


def message(answer: chat_pb2.ChatCompletion, *, request_id: str) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """A `message` object, and notes of what it could not show."""
    own = answer.dialect == answers.DIALECT
    notes: list[chat_pb2.TranslationNote] = []
    choice = answer.choices[0] if answer.choices else chat_pb2.Choice()
    notes += [
        _dropped(f"choices[{other.index}]", "one answer is all there is room for") for other in answer.choices[1:]
    ]
    parts = choice.message.parts
    if not own:
        notes += citations.dropped("message", choice.message.extra_json)
        notes += citations.dropped("choices[0]", choice.extra_json)
        if choice.logprobs_json:
            notes.append(_dropped("choices[0].logprobs", ""))
    body: dict[str, Any] = {
        "id": answer.id or f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": blocks(parts, notes, own=own),
    }
    body |= answers.stopped(
        choice.finish_reason,
        choice.native_finish_reason,
        choice.stop_sequence,
        own=own,
        refused=any(part.HasField("refusal") for part in parts),
    )
    body["usage"] = answers.usage(answer.usage if answer.HasField("usage") else None, own=own)
    body |= answers.extras(answer.extra_json, own=own)
    return orjson.dumps(body), notes


def token_count(count: chat_pb2.TokenCount) -> bytes:
    """The answer to a request to count tokens."""
    body: dict[str, Any] = {"input_tokens": count.input_tokens}
    return orjson.dumps(body | answers.extras(count.extra_json, own=count.dialect == answers.DIALECT))


def blocks(parts: Iterable[message_pb2.Part], notes: list[chat_pb2.TranslationNote], *, own: bool) -> list[Any]:
    """The content blocks of an answer's parts."""
    found: list[Any] = []
    for index, part in enumerate(parts):
        state = part.provider_state if part.HasField("provider_state") else None
        match part.WhichOneof("kind"):
            case "reasoning":
                block = _thinking(part.reasoning, state)
                state = None
            case "text":
                block = {"type": "text", "text": part.text.text}
                notes += [] if own else citations.dropped(f"content[{index}]", part.extra_json)
                if state is not None and not part.text.text:
                    found.append(_carrier(state, "text"))
                    continue
            case "refusal":
                block = {"type": "text", "text": part.refusal.text}
            case "tool_call":
                if state is not None:
                    _sign_next(found, state)
                    state = None
                block = _tool_use(part.tool_call)
            case "native" if part.native.dialect == answers.DIALECT:
                found.append(orjson.Fragment(part.native.json))
                continue
            case "audio" if part.audio.transcript:
                notes.append(_emulated(f"content[{index}]", "the transcript of the audio"))
                block = {"type": "text", "text": part.audio.transcript}
            case other:
                detail = answers.native_type(part.native) if other == "native" else other or ""
                notes.append(_dropped(f"content[{index}]", detail))
                continue
        found.append(block | answers.extras(part.extra_json, own=own))
        if state is not None:
            found.append(_carrier(state, "last"))
    return found


def _thinking(reasoning: message_pb2.ReasoningPart, state: message_pb2.ProviderState | None) -> dict[str, Any]:
    opaque = "" if state is None else carriers.pack(state)
    if reasoning.redacted:
        return {"type": "redacted_thinking", "data": opaque}
    return {"type": "thinking", "thinking": reasoning.text, "signature": opaque}


def _sign_next(found: list[Any], state: message_pb2.ProviderState) -> None:
    """Put the state of the tool call to come where clients keep such things: into the thinking before it."""
    before = found[-1] if found else None
    if isinstance(before, dict) and before["type"] == "thinking" and not before["signature"]:
        before["signature"] = carriers.pack(state, "next")
    else:
        found.append(_carrier(state, "next"))


def _carrier(state: message_pb2.ProviderState, place: carriers.Place) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "", "signature": carriers.pack(state, place)}


def _tool_use(call: message_pb2.ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": answers.tool_input(call.arguments)}


def _dropped(path: str, detail: str) -> chat_pb2.TranslationNote:
    return chat_pb2.TranslationNote(field=path, action=chat_pb2.TRANSLATION_ACTION_DROPPED, detail=detail)


def _emulated(path: str, detail: str) -> chat_pb2.TranslationNote:
    return chat_pb2.TranslationNote(field=path, action=chat_pb2.TRANSLATION_ACTION_EMULATED, detail=detail)
