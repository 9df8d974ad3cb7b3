"""Whole answers in OpenAI's shape: chat completions, embeddings and models, as the bytes of the HTTP body.

The extra fields of a provider that speaks OpenAI itself come back as they were; those of others have no place here, and
what they leave out is told as notes. Not for streams: see `chunks`.
"""

from __future__ import annotations

import base64
import sys
import time
from array import array
from typing import TYPE_CHECKING, Any

import orjson
from aigateway.v1 import chat_pb2, message_pb2

from aigateway_edge import citations
from aigateway_edge.media import data_url
from aigateway_edge.native import dropped, paused
from aigateway_edge.openai import carriers
from aigateway_edge.openai.usage import embedding_usage, usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aigateway.v1 import embedding_pb2, model_pb2


def chat_completion(
    answer: chat_pb2.ChatCompletion, *, request_id: str, legacy_functions: bool = False
) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """A `chat.completion` object, and notes of what it could not show."""
    notes: list[chat_pb2.TranslationNote] = []
    body: dict[str, Any] = {
        "id": answer.id or f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": answer.created or int(time.time()),
        "model": answer.model,
        "choices": [_choice(choice, answer.dialect, notes, legacy=legacy_functions) for choice in answer.choices],
        "usage": usage(answer.usage, answer.dialect) if answer.HasField("usage") else None,
    }
    if answer.extra_json:
        body = carriers.extras(answer.extra_json, answer.dialect) | body
    return orjson.dumps(body), notes


def embeddings(answer: embedding_pb2.Embeddings, *, base64_vectors: bool) -> bytes:
    """A list of `embedding` objects; as base64 each vector is little-endian float32."""
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": item.index,
                "embedding": _packed(item.values) if base64_vectors else list(item.values),
            }
            for item in answer.embeddings
        ],
        "model": answer.model,
        "usage": embedding_usage(answer.usage, answer.dialect) if answer.HasField("usage") else None,
    }
    return orjson.dumps(carriers.extras(answer.extra_json, answer.dialect) | body)


def models(found: Iterable[model_pb2.Model], unavailable: Mapping[str, str]) -> bytes:
    """The list of `model` objects; providers that did not answer are named with the reason."""
    body: dict[str, Any] = {"object": "list", "data": [_model(item) for item in found]}
    if unavailable:
        body["unavailable"] = dict(unavailable)
    return orjson.dumps(body)


def model(found: model_pb2.Model) -> bytes:
    """One `model` object."""
    return orjson.dumps(_model(found))


def _choice(
    choice: chat_pb2.Choice,
    dialect: message_pb2.Dialect.ValueType,
    notes: list[chat_pb2.TranslationNote],
    *,
    legacy: bool,
) -> dict[str, Any]:
    message = _message(choice.message, f"choices[{choice.index}].message", dialect, notes)
    if legacy:
        _call_one_function(message, f"choices[{choice.index}].message", notes)
    native = choice.native_finish_reason
    view: dict[str, Any] = {
        "index": choice.index,
        "message": message,
        "logprobs": orjson.Fragment(choice.logprobs_json) if choice.logprobs_json else None,
        "finish_reason": carriers.finish_reason(choice.finish_reason, native, dialect, legacy=legacy),
    }
    if native and dialect != message_pb2.DIALECT_OPENAI_CHAT:
        view["native_finish_reason"] = native
    if choice.extra_json and dialect != message_pb2.DIALECT_OPENAI_CHAT:
        notes += citations.dropped(f"choices[{choice.index}]", choice.extra_json)
    if choice.finish_reason == chat_pb2.FINISH_REASON_PAUSE:
        notes.append(paused(choice.index, native))
    if choice.stop_sequence:
        view["stop_sequence"] = choice.stop_sequence
    return carriers.extras(choice.extra_json, dialect) | view if choice.extra_json else view


def _message(
    message: message_pb2.Message,
    path: str,
    dialect: message_pb2.Dialect.ValueType,
    notes: list[chat_pb2.TranslationNote],
) -> dict[str, Any]:
    texts: list[str] = []
    refusals: list[str] = []
    calls: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    reasoning: list[str] = []
    more = carriers.extras(message.extra_json, dialect)
    for index, part in enumerate(message.parts):
        state = part.provider_state if part.HasField("provider_state") else None
        match part.WhichOneof("kind"):
            case "text":
                if part.extra_json and dialect != message_pb2.DIALECT_OPENAI_CHAT:
                    before = sum(map(len, texts))
                    more |= _cited(part.extra_json, f"{path}.parts[{index}]", dialect, more, notes, before=before)
                texts.append(part.text.text)
                if state is not None:
                    more["extra_content"] = carriers.extra_content(state)
            case "refusal":
                refusals.append(part.refusal.text)
            case "reasoning":
                reasoning.append(part.reasoning.text)
                details.append(carriers.reasoning_detail(part.reasoning, state))
            case "tool_call":
                calls.append(_tool_call(part, state, dialect))
            case "audio":
                more["audio"] = _audio(part.audio)
            case "image":
                more.setdefault("images", []).append(_image(part.image))
            case "native" if part.native.dialect == message_pb2.DIALECT_OPENAI_CHAT:
                calls.append(orjson.Fragment(part.native.json))  # type: ignore[arg-type] # only tool calls have types there
            case _:
                notes.append(dropped(f"{path}.parts[{index}]", part))
    view: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if reasoning_text := "".join(reasoning):
        view["reasoning_content"] = reasoning_text
    if details and "reasoning_details" not in more:
        view["reasoning_details"] = details
    if calls:
        view["tool_calls"] = calls
    return more | view if more else view


def _call_one_function(message: dict[str, Any], path: str, notes: list[chat_pb2.TranslationNote]) -> None:
    """The first call as the legacy `function_call`, and notes of those that it has no room for."""
    for index, call in enumerate(message.pop("tool_calls", ())):
        if "function_call" not in message and isinstance(call, dict) and "function" in call:
            message["function_call"] = call["function"]
        else:
            action = chat_pb2.TRANSLATION_ACTION_DROPPED
            field, detail = f"{path}.tool_calls[{index}]", "`function_call` has room for one"
            notes.append(chat_pb2.TranslationNote(field=field, action=action, detail=detail))


def _cited(
    extra: bytes,
    path: str,
    dialect: message_pb2.Dialect.ValueType,
    more: Mapping[str, Any],
    notes: list[chat_pb2.TranslationNote],
    *,
    before: int,
) -> dict[str, Any]:
    """The `annotations` with what one more text cites, if OpenAI made it; `before` is where the text begins."""
    if dialect != message_pb2.DIALECT_OPENAI_RESPONSES:
        notes += citations.dropped(path, extra)
        return {}
    shown, others = citations.chat_of_responses(extra, before)
    notes += [citations.unshown(f"{path}.annotations", kind) for kind in others]
    return {"annotations": more.get("annotations", []) + shown} if shown else {}


def _tool_call(
    part: message_pb2.Part, state: message_pb2.ProviderState | None, dialect: message_pb2.Dialect.ValueType
) -> dict[str, Any]:
    call = part.tool_call
    arguments = call.arguments.decode("utf-8", "replace")
    view = carriers.extras(part.extra_json, dialect)
    if call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
        view |= {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": arguments}}
    else:
        view |= {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
    if state is not None:
        view["extra_content"] = carriers.extra_content(state)
    return view


def _audio(audio: message_pb2.AudioPart) -> dict[str, Any]:
    return {
        "id": audio.id,
        "data": base64.b64encode(audio.media.data).decode(),
        "expires_at": audio.expires_at,
        "transcript": audio.transcript,
    }


def _image(image: message_pb2.ImagePart) -> dict[str, Any]:
    """A picture that the model made, in the `images` field that OpenRouter and its clients use."""
    return {"type": "image_url", "image_url": {"url": data_url(image.media)}}


def _packed(values: Iterable[float]) -> str:
    floats = array("f", values)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


def _model(item: model_pb2.Model) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": item.id,
        "object": "model",
        "created": item.created,
        "owned_by": item.owned_by or item.provider,
        "provider": item.provider,
        "upstream_model": item.upstream_model,
    }
    if item.display_name:
        view["display_name"] = item.display_name
    if item.input_modalities:
        view["input_modalities"] = list(item.input_modalities)
    if item.output_modalities:
        view["output_modalities"] = list(item.output_modalities)
    if item.HasField("context_window"):
        view["context_window"] = item.context_window
    if item.HasField("max_output_tokens"):
        view["max_output_tokens"] = item.max_output_tokens
    if item.HasField("tools"):
        view["tools"] = item.tools
    if item.HasField("reasoning"):
        view["reasoning"] = item.reasoning
    if item.HasField("structured_output"):
        view["structured_output"] = item.structured_output
    if item.HasField("input_usd_per_mtok"):
        view["input_usd_per_mtok"] = item.input_usd_per_mtok
    if item.HasField("output_usd_per_mtok"):
        view["output_usd_per_mtok"] = item.output_usd_per_mtok
    if item.HasField("residency"):
        view |= _residency(item.residency)
    return view


def _residency(found: model_pb2.Residency) -> dict[str, Any]:
    """`loaded` for every model of a provider that says so; the rest, in an object of its own, for those in memory."""
    if not found.loaded:
        return {"loaded": False}
    named = {
        "expires": "expires_at",
        "memory_bytes": "memory_bytes",
        "vram_bytes": "vram_bytes",
        "context_window": "context_window",
    }
    told = {name: getattr(found, field) for field, name in named.items() if found.HasField(field)}  # type: ignore[arg-type] # the fields are those of the message
    return {"loaded": True, "residency": told}
