"""Ollama's answers to neutral messages: whole chats, vectors, the model list, and the mappings that streams share.

Pure. Durations come in nanoseconds and stay so, in the usage's `native_json`.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import uuid4

import msgspec
import orjson
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2, tokens_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import upstream_errors
from aigateway_providers.ollama import wire
from aigateway_providers.ollama.errors import from_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_T = TypeVar("_T")

DIALECT: Final = message_pb2.DIALECT_OLLAMA
METRICS: Final = frozenset(
    {
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_cached_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    }
)
"""What Ollama measures of a call; counts in tokens, durations in nanoseconds (https://docs.ollama.com/api/usage)."""

_MAPPED: Final = METRICS | {"model", "created_at", "message", "done", "done_reason", "logprobs"}
_MAPPED_IN_MESSAGE: Final = frozenset({"role", "content", "thinking", "tool_calls"})
_EMBED_MAPPED: Final = METRICS | {"model", "embeddings"}
FINISH_REASONS: Final[Mapping[str, chat_pb2.FinishReason.ValueType]] = {
    "stop": chat_pb2.FINISH_REASON_STOP,
    "length": chat_pb2.FINISH_REASON_LENGTH,
    # The server loaded or unloaded the model and answered nothing.
    "load": chat_pb2.FINISH_REASON_ERROR,
    "unload": chat_pb2.FINISH_REASON_ERROR,
}
_ANSWER = msgspec.json.Decoder(wire.Answer)
_VECTORS = msgspec.json.Decoder(wire.Vectors)
_TAGS = msgspec.json.Decoder(wire.Tags)
_ENTRY = msgspec.json.Decoder(wire.Entry)
_RUNNING = msgspec.json.Decoder(wire.Running)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
NOT_LOADED: Final = model_pb2.Residency()


def completion(
    provider: str,
    answer: wire.Answer,
    body: bytes,
    notes: Sequence[chat_pb2.TranslationNote],
    *,
    hide_thinking: bool = False,
) -> chat_pb2.ChatCompletion:
    """The whole answer, which `read_answer` has read from `body`.

    Raises:
        GatewayError: UPSTREAM_INVALID when there is no finished message in it.
    """
    if answer.message is None or not answer.done:
        raise GatewayError(
            "UPSTREAM_INVALID",
            f"{provider} answered without a finished message",
            details={"provider": provider, "upstream_status": "200"},
        )
    fields = _OBJECT.decode(body)
    message = _message(answer.message, fields["message"], hide_thinking=hide_thinking)
    choice = chat_pb2.Choice(
        message=message,
        finish_reason=finish_reason(answer.done_reason, called=bool(answer.message.tool_calls)),
        native_finish_reason=answer.done_reason or "",
        logprobs_json=logprobs_json(answer.logprobs),
    )
    used = usage(answer, fields)
    return chat_pb2.ChatCompletion(
        id=new_id(),
        created=created(answer.created_at),
        model=answer.model,
        choices=[choice],
        usage=used,
        translation=notes,
        dialect=DIALECT,
        extra_json=pick(fields, _MAPPED if used else _MAPPED - METRICS, inside=False),
    )


def _message(message: wire.Message, raw: msgspec.Raw, *, hide_thinking: bool) -> message_pb2.Message:
    parts: list[message_pb2.Part] = []
    if message.thinking and not hide_thinking:
        parts.append(message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=message.thinking)))
    calls = message.tool_calls or ()
    if message.content or not calls:
        parts.append(message_pb2.Part(text=message_pb2.TextPart(text=message.content or "")))
    parts.extend(message_pb2.Part(tool_call=tool_call(call)) for call in calls)
    extra = pick(_OBJECT.decode(raw), _MAPPED_IN_MESSAGE, inside=False)
    return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts, extra_json=extra)


def embeddings(
    provider: str, body: bytes, expected: int, notes: Sequence[chat_pb2.TranslationNote]
) -> embedding_pb2.Embeddings:
    """The vectors in `body`, of which there must be `expected`.

    Raises:
        GatewayError: UPSTREAM_INVALID.
    """
    answer = _read(_VECTORS, provider, body)
    if answer.error is not None:
        raise from_error(provider, 500, answer.error)
    vectors = answer.embeddings or []
    if len(vectors) != expected:
        raise GatewayError(
            "UPSTREAM_INVALID",
            f"{provider} answered {len(vectors)} vectors for {expected} inputs",
            details={"provider": provider, "upstream_status": "200"},
        )
    fields = _OBJECT.decode(body)
    used = None
    if answer.prompt_eval_count:
        used = tokens_pb2.TokenUsage(
            input_uncached=answer.prompt_eval_count, native_json=pick(fields, METRICS, inside=True)
        )
    return embedding_pb2.Embeddings(
        model=answer.model,
        embeddings=[embedding_pb2.Embedding(index=i, values=vector) for i, vector in enumerate(vectors)],
        usage=used,
        translation=notes,
        dialect=DIALECT,
        extra_json=pick(fields, _EMBED_MAPPED if used else _EMBED_MAPPED - METRICS, inside=False),
    )


def models(provider: str, body: bytes) -> list[model_pb2.Model]:
    """The models that `/api/tags` lists.

    Raises:
        GatewayError: UPSTREAM_INVALID.
    """
    entries = [bytes(raw) for raw in _read(_TAGS, provider, body).models or ()]
    return [_model(provider, _read(_ENTRY, provider, entry), entry) for entry in entries]


def _model(provider: str, entry: wire.Entry, raw: bytes) -> model_pb2.Model:
    namespace, slash, _ = entry.name.rpartition("/")
    model = model_pb2.Model(
        id=entry.name,
        provider=provider,
        upstream_model=entry.name,
        created=created(entry.modified_at) if entry.modified_at else 0,
        owned_by=namespace if slash else "library",
        native_json=raw,
    )
    if entry.capabilities is not None:  # newer servers only; absent says nothing
        able = frozenset(entry.capabilities)
        model.tools = "tools" in able
        model.reasoning = "thinking" in able
        model.input_modalities.extend(["text", "image"] if "vision" in able else ["text"])
        model.output_modalities.append("embedding" if "embedding" in able else "text")
    return model


def residencies(provider: str, body: bytes) -> dict[str, model_pb2.Residency]:
    """The models that `/api/ps` lists, by their full names.

    Raises:
        GatewayError: UPSTREAM_INVALID.
    """
    return {
        full_name(one.name): model_pb2.Residency(
            loaded=True,
            expires=_seconds(one.expires_at),
            memory_bytes=one.size,
            vram_bytes=one.size_vram,
            context_window=one.context_length,
        )
        for one in _read(_RUNNING, provider, body).models or ()
    }


def full_name(model: str) -> str:
    """A model's name with its tag; without one Ollama takes `latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def read_answer(provider: str, data: bytes) -> wire.Answer:
    """One answer or one line of a stream.

    Raises:
        GatewayError: UPSTREAM_INVALID when it is not JSON of that shape; what an `error` inside it stands for.
    """
    answer = _read(_ANSWER, provider, data)
    if answer.error is not None:
        raise from_error(provider, answer.status or 500, answer.error)
    return answer


def _read(decoder: msgspec.json.Decoder[_T], provider: str, data: bytes) -> _T:
    try:
        data.decode()  # what is passed on unread must be text too
        return decoder.decode(data)
    except upstream_errors.UNREADABLE as error:
        raise upstream_errors.not_json(provider, 200) from error


def read_fields(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object that `read_answer` has taken, each as it is written."""
    return _OBJECT.decode(data)


def extra_fields(fields: Mapping[str, msgspec.Raw], *, metrics: bool) -> dict[str, msgspec.Raw]:
    """What of an answer's fields has no neutral form; the metrics too, unless a usage carries them."""
    mapped = _MAPPED - METRICS if metrics else _MAPPED
    return {name: raw for name, raw in fields.items() if name not in mapped}


def pick(fields: Mapping[str, msgspec.Raw], names: frozenset[str], *, inside: bool) -> bytes:
    """One JSON object of the fields whose name is among `names` (or is not); empty when there are none."""
    chosen = {name: orjson.Fragment(bytes(raw)) for name, raw in fields.items() if (name in names) == inside}
    return orjson.dumps(chosen) if chosen else b""


def usage(answer: wire.Answer, fields: Mapping[str, msgspec.Raw]) -> tokens_pb2.TokenUsage | None:
    """The tokens, or None when Ollama gave none.

    `prompt_eval_count` counts the whole prompt, cached tokens included; servers before 0.33 leave it out (or say 0)
    when the cache served the prompt, which is not zero tokens but an unknown number. `eval_count` includes the
    thinking.
    """
    if not answer.prompt_eval_count and answer.eval_count is None:
        return None
    cached = answer.prompt_eval_cached_count
    prompt = answer.prompt_eval_count or None
    return tokens_pb2.TokenUsage(
        input_uncached=None if prompt is None else max(0, prompt - (cached or 0)),
        input_cache_read=cached,
        output_text=answer.eval_count,
        native_json=pick(fields, METRICS, inside=True),
    )


def finish_reason(done_reason: str | None, *, called: bool) -> chat_pb2.FinishReason.ValueType:
    """Why the model stopped; Ollama says `stop` after tool calls too. What it has not documented counts as stop."""
    reason = FINISH_REASONS.get(done_reason or "stop", chat_pb2.FINISH_REASON_STOP)
    return chat_pb2.FINISH_REASON_TOOL_CALLS if called and reason == chat_pb2.FINISH_REASON_STOP else reason


def tool_call(call: wire.Call) -> message_pb2.ToolCall:
    """A tool call, with an id of our own where the server gave none."""
    arguments = bytes(call.function.arguments)
    return message_pb2.ToolCall(
        id=call.id or f"call_{uuid4().hex[:24]}",
        name=call.function.name,
        arguments=b"{}" if arguments == b"null" else arguments,
        type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
    )


def logprobs_json(logprobs: Sequence[wire.Logprob] | None) -> bytes:
    """OpenAI's `logprobs` object, or nothing."""
    if not logprobs:
        return b""
    content = [
        {
            "token": entry.token,
            "logprob": entry.logprob,
            "bytes": entry.bytes,
            "top_logprobs": [
                {"token": top.token, "logprob": top.logprob, "bytes": top.bytes} for top in entry.top_logprobs or ()
            ],
        }
        for entry in logprobs
    ]
    return orjson.dumps({"content": content, "refusal": None})


def created(text: str) -> int:
    """Seconds since the epoch of an RFC 3339 time; now, when it is none."""
    seconds = _seconds(text)
    return int(time.time()) if seconds is None else seconds


def _seconds(text: str) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


def new_id() -> str:
    """An id for an answer; Ollama gives none."""
    return f"chatcmpl-{uuid4().hex}"
