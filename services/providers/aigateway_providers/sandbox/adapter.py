"""The sandbox: a provider without a provider, for trying clients before there are keys.

Nothing leaves the process. Every answer is labelled (`system_fingerprint` is `sandbox`, and `sandbox.usage_unit` says
that words were counted, not tokens), so that nobody takes it for a model's.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, model_pb2, tokens_pb2
from aigateway_common.errors import invalid

from aigateway_providers import splice, upstream_errors
from aigateway_providers.report import Report
from aigateway_providers.sandbox.answers import Answer, answer, first_words, prompt_words, usage, words
from aigateway_providers.sandbox.models import MODELS, SLOW, broken_midway, find
from aigateway_providers.sandbox.vectors import DIMENSIONS, MAX_DIMENSIONS, unit_vector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from aigateway_providers.adapter import CallContext
    from aigateway_providers.settings import ProviderSettings

LABEL: Final = b'{"system_fingerprint":"sandbox","sandbox":{"usage_unit":"words"}}'
"""Extra fields of every answer."""
_UNIT_LABEL: Final = b'{"sandbox":{"usage_unit":"words"}}'
_DIALECT: Final = message_pb2.DIALECT_OPENAI_CHAT
_PIECE: Final = 8
"""Characters of a tool call's arguments that go into one event."""


class _Knobs(msgspec.Struct, forbid_unknown_fields=True):
    """What a caller may set in `provider_options.sandbox`; seconds."""

    delay: float | None = None
    pace: float | None = None


@dataclass(frozen=True, slots=True)
class _Tempo:
    delay: float
    """Seconds before the first word."""
    pace: float
    """Seconds between words."""


def create(settings: ProviderSettings) -> SandboxAdapter:
    """The adapter for `settings`, of which `pace` and `model_options` (`{"slow": {"delay": 3}}`) matter."""
    return SandboxAdapter(settings)


class SandboxAdapter:
    """The models of `sandbox/…`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._name = settings.name

    @property
    def capabilities(self) -> model_pb2.Capabilities:
        """What the adapter can do."""
        return model_pb2.Capabilities(
            provider=self._name,
            dialect=_DIALECT,
            chat=True,
            embed=True,
            list_models=True,
            tools=True,
            structured_output=True,
            reasoning=True,
            count_tokens=True,
        )

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:  # noqa: ARG002
        """The whole answer."""
        find(self._name, call.model, embeds=False)
        made, notes, tempo = answer(call), _notes(call), self._tempo(call)
        await self._begin(call.model, tempo)
        match call.model:
            case "fail-midstream":
                raise broken_midway(self._name)
            case "fail-cut":
                raise upstream_errors.cut_short(self._name)
            case _:
                await _pause(tempo.pace * len(words(made.text)))
        choice = chat_pb2.Choice(message=_message(made), finish_reason=made.finish, native_finish_reason=_native(made))
        return chat_pb2.ChatCompletion(
            id=_id(call),
            created=int(time.time()),
            model=call.model,
            choices=[choice],
            usage=usage(call, made),
            translation=notes,
            dialect=_DIALECT,
            extra_json=LABEL,
        )

    async def stream_chat(
        self,
        call: chat_pb2.ChatCall,
        context: CallContext,  # noqa: ARG002 - there is no upstream to wait for
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        """The answer in events, one word or piece of arguments at a time."""
        find(self._name, call.model, embeds=False)
        made, notes, tempo = answer(call), _notes(call), self._tempo(call)
        await self._begin(call.model, tempo)
        yield [chat_pb2.ChatEvent(start=_start(call, notes))]
        broken = call.model in {"fail-midstream", "fail-cut"}
        for event in _events(first_words(made) if broken else made):
            yield [event]
            await _pause(tempo.pace)
        if broken:
            raise broken_midway(self._name) if call.model == "fail-midstream" else upstream_errors.cut_short(self._name)
        finish = chat_pb2.StreamFinish(reason=made.finish, native_reason=_native(made))
        yield [chat_pb2.ChatEvent(finish=finish), chat_pb2.ChatEvent(usage=usage(call, made))]

    async def count_tokens(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.TokenCount:  # noqa: ARG002
        """The words of the prompt, as the answer's usage counts them."""
        find(self._name, call.model, embeds=False)
        return chat_pb2.TokenCount(
            input_tokens=prompt_words(call), translation=_notes(call), dialect=_DIALECT, extra_json=_UNIT_LABEL
        )

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:  # noqa: ARG002
        """Vectors made of hashes."""
        find(self._name, call.model, embeds=True)
        await self._begin(call.model, self._tempo(call))
        if call.model != "embed":  # `fail-midstream` and `fail-cut`: an answer that is not streamed just breaks
            raise upstream_errors.cut_short(self._name)
        size = call.dimensions if call.HasField("dimensions") else DIMENSIONS
        if not 1 <= size <= MAX_DIMENSIONS:
            raise invalid("dimensions", f"`dimensions` must be 1 to {MAX_DIMENSIONS}")
        texts = [_input_text(item) for item in call.inputs]
        return embedding_pb2.Embeddings(
            model=call.model,
            embeddings=[embedding_pb2.Embedding(index=i, values=unit_vector(t, size)) for i, t in enumerate(texts)],
            usage=tokens_pb2.TokenUsage(input_uncached=sum(len(words(text)) for text in texts)),
            dialect=_DIALECT,
            extra_json=_UNIT_LABEL,
        )

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:  # noqa: ARG002
        """All of the sandbox's models."""
        return [
            model_pb2.Model(
                id=name,
                provider=self._name,
                upstream_model=name,
                owned_by="sandbox",
                display_name=model.title,
                input_modalities=["text"],
                output_modalities=["embedding" if model.embeds else "text"],
                tools=name == "tools",
                reasoning=name == "reason",
                structured_output=name == "json",
                input_usd_per_mtok=0.0,
                output_usd_per_mtok=0.0,
            )
            for name, model in MODELS.items()
        ]

    async def aclose(self) -> None:
        """Nothing to close."""

    def _tempo(self, call: chat_pb2.ChatCall | embedding_pb2.EmbedCall) -> _Tempo:
        """How fast to answer: the caller's word, then the configuration's, then the model's own."""
        asked, configured = _Knobs(), _Knobs()
        if self._name in call.provider_options:
            param = f"provider_options.{self._name}"
            try:
                asked = msgspec.json.decode(call.provider_options[self._name], type=_Knobs)
            except msgspec.DecodeError as error:
                raise invalid(param, f"`{param}` takes `delay` and `pace`, seconds") from error
        if call.model in self._settings.model_options:
            configured = msgspec.convert(dict(self._settings.model_options[call.model]), _Knobs)
        delay = SLOW if call.model == "slow" else 0.0
        return _Tempo(
            delay=_first(asked.delay, configured.delay, delay),
            pace=_first(asked.pace, configured.pace, self._settings.pace),
        )

    async def _begin(self, model: str, tempo: _Tempo) -> None:
        """What passes before the first word."""
        await _pause(tempo.delay)
        if model == "fail-timeout":
            await asyncio.get_running_loop().create_future()


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


async def _pause(seconds: float) -> None:
    """Let `seconds` pass; none at all still lets others run."""
    await asyncio.sleep(max(0.0, seconds))


def _notes(call: chat_pb2.ChatCall) -> list[chat_pb2.TranslationNote]:
    report = Report(call.translation_policy)
    if call.dialect != _DIALECT:
        for key in splice.members(call.extra_json, "extra_json"):
            report.dropped(key)
    asked = call.response_format.type
    if call.model != "json" and asked > chat_pb2.RESPONSE_FORMAT_TYPE_TEXT:
        report.dropped("response_format", "this model answers text; `json` follows it")
    if call.model != "tools" and call.tool_choice.mode == message_pb2.TOOL_CHOICE_MODE_REQUIRED:
        report.dropped("tool_choice", "this model calls no tools; `tools` does")
    return report.settle()


def _message(made: Answer) -> message_pb2.Message:
    parts: list[message_pb2.Part] = []
    if made.reasoning:
        parts.append(message_pb2.Part(reasoning=message_pb2.ReasoningPart(text=made.reasoning)))
    if made.text or not made.tool_calls:
        parts.append(message_pb2.Part(text=message_pb2.TextPart(text=made.text)))
    parts.extend(message_pb2.Part(tool_call=call) for call in made.tool_calls)
    return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts)


def _events(made: Answer) -> Iterator[chat_pb2.ChatEvent]:
    part = 0
    for word in words(made.reasoning):
        yield chat_pb2.ChatEvent(part=part, reasoning=word)
    part += bool(made.reasoning)
    for word in words(made.text):
        yield chat_pb2.ChatEvent(part=part, text=word)
    part += bool(made.text)
    for index, call in enumerate(made.tool_calls):
        start = chat_pb2.ToolCallStart(id=call.id, name=call.name, index=index, type=call.type)
        yield chat_pb2.ChatEvent(part=part + index, tool_call=start)
        arguments = call.arguments.decode()
        for at in range(0, len(arguments), _PIECE):
            yield chat_pb2.ChatEvent(part=part + index, arguments=arguments[at : at + _PIECE])


def _start(call: chat_pb2.ChatCall, notes: list[chat_pb2.TranslationNote]) -> chat_pb2.StreamStart:
    return chat_pb2.StreamStart(
        id=_id(call),
        created=int(time.time()),
        model=call.model,
        translation=notes,
        dialect=_DIALECT,
        extra_json=LABEL,
    )


def _id(call: chat_pb2.ChatCall) -> str:
    """An id that is the same for the same call."""
    return f"sandbox-{sha256(call.SerializeToString(deterministic=True)).hexdigest()[:24]}"


def _native(made: Answer) -> str:
    return chat_pb2.FinishReason.Name(made.finish).removeprefix("FINISH_REASON_").lower()


def _input_text(item: embedding_pb2.EmbeddingInput) -> str:
    return item.text if item.WhichOneof("kind") == "text" else " ".join(str(token) for token in item.tokens.ids)
