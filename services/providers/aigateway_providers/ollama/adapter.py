"""Ollama behind the neutral contract, local or in its cloud: `/api/chat`, `/api/embed`, `/api/tags` and `/api/ps`.

Native, because Ollama's OpenAI-compatible face ignores the context window, `keep_alive` and `think`. One upstream
request per call; the translation is in the pure modules beside this one. It pulls no models.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2, model_pb2
from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError
from aigateway_common.sse import NDJSONReader

from aigateway_providers import media_types, upstream_errors
from aigateway_providers.adapter import CallContext
from aigateway_providers.media_fetch import MediaFetcher
from aigateway_providers.media_urls import Takes
from aigateway_providers.ollama import response as answers
from aigateway_providers.ollama.errors import from_body
from aigateway_providers.ollama.request import ChatRequest, chat_request, embed_request
from aigateway_providers.ollama.stream import ChatStream
from aigateway_providers.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aigateway.v1 import embedding_pb2

    from aigateway_providers.ollama import wire
    from aigateway_providers.settings import ProviderSettings

_log = logs.get("aigateway.provider.ollama")
_TAKES: Final = Takes(
    # What its own client sends as pictures (https://docs.ollama.com/capabilities/vision).
    types={"image": frozenset({media_types.JPEG, media_types.PNG, media_types.WEBP})},
    fetch=lambda url: True,  # noqa: ARG005 - Ollama reads no address
)
_PATIENCE: Final = 2.0
"""Seconds that a list of models waits to learn which of them are in memory."""
_PHASES: Final = (("load", "load_duration"), ("prompt", "prompt_eval_duration"), ("output", "eval_duration"))


def create(settings: ProviderSettings) -> OllamaAdapter:
    """The adapter for `settings`, whose address is the host; `/api` or `/v1` at its end is taken off."""
    base_url = settings.base_url.rstrip("/")
    for tail in ("/api", "/v1"):
        base_url = base_url.removesuffix(tail)
    return OllamaAdapter(replace(settings, base_url=base_url))


class OllamaAdapter:
    """One Ollama server."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._name = settings.name
        self._upstream = Upstream(settings, _credentials(settings.api_key))
        self._media = MediaFetcher(settings, _TAKES)
        self._windows: dict[str, int] = {}
        """The context windows of the models in memory when they were last listed, by full name."""

    def rekey(self, key: str) -> None:
        """See `Keyed`."""
        self._upstream.rekey(_credentials(key))

    @property
    def capabilities(self) -> model_pb2.Capabilities:
        """What the adapter can do."""
        return model_pb2.Capabilities(
            provider=self._name,
            dialect=answers.DIALECT,
            chat=True,
            embed=True,
            list_models=True,
            tools=True,
            images=True,
            structured_output=True,
            reasoning=True,
            finish_reasons=answers.FINISH_REASONS,
        )

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        """The whole answer."""
        call = await self._media.inline(call, context)
        request = self._request(call, stream=False)
        body = await self._fetch("POST", "/api/chat", context, request.body, call.model)
        answer = answers.read_answer(self._name, body)
        notes = [*request.notes, *request.window.notes(answer.prompt_eval_count)]
        completion = answers.completion(self._name, answer, body, notes, hide_thinking=request.hide_thinking)
        self._measured(call.model, request, answer)
        return completion

    async def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        """The answer in events; closing the generator closes the connection, which stops the model."""
        call = await self._media.inline(call, context)
        request = self._request(call, stream=True)
        async with await self._upstream.send("POST", "/api/chat", context=context, body=request.body) as response:
            if response.status != 200:
                raise from_body(self._name, response.status, response.headers, await response.read(), call.model)
            reader = NDJSONReader()
            stream = ChatStream(self._name, request.notes, hide_thinking=request.hide_thinking, window=request.window)
            waiting_since = time.perf_counter_ns()
            async for chunk in response.chunks():
                if waiting_since:
                    context.upstream_ns += time.perf_counter_ns() - waiting_since
                    waiting_since = 0
                if events := stream.feed(reader.feed(chunk)):
                    yield events
                if stream.error is not None:
                    raise stream.error
            if events := stream.feed(reader.close()):
                yield events
            if stream.last is None:
                raise self._broken_off(stream.error)
            self._measured(call.model, request, stream.last)

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:
        """The vectors, in the order of the inputs."""
        request, notes = embed_request(call, self._settings)
        body = await self._fetch("POST", "/api/embed", context, request, call.model)
        return answers.embeddings(self._name, body, len(call.inputs), notes)

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:
        """The models that the server has, each with whether it is in memory."""
        models = answers.models(self._name, await self._fetch("GET", "/api/tags", context))
        if (loaded := await self._loaded(context.request_id)) is not None:
            self._windows = {name: one.context_window for name, one in loaded.items() if one.context_window}
            for model in models:
                model.residency.CopyFrom(loaded.get(answers.full_name(model.id), answers.NOT_LOADED))
        return models

    async def aclose(self) -> None:
        """Close the connections."""
        await self._upstream.aclose()
        await self._media.aclose()

    async def _fetch(
        self, method: str, path: str, context: CallContext, body: bytes | None = None, model: str = ""
    ) -> bytes:
        status, headers, content = await self._upstream.fetch(method, path, context=context, body=body)
        if status != 200:
            raise from_body(self._name, status, headers, content, model)
        return content

    def _request(self, call: chat_pb2.ChatCall, *, stream: bool) -> ChatRequest:
        window = self._windows.get(answers.full_name(call.model))
        return chat_request(call, self._settings, stream=stream, loaded_num_ctx=window)

    async def _loaded(self, request_id: str) -> dict[str, model_pb2.Residency] | None:
        """The models in memory by their full names; None when the server does not say, which is no failure."""
        try:
            async with asyncio.timeout(_PATIENCE):
                body = await self._fetch("GET", "/api/ps", CallContext(request_id))
            return answers.residencies(self._name, body)
        except TimeoutError:
            reason = "it did not answer in time"
        except GatewayError as error:
            reason = error.message
        _log.info("models in memory are not known", provider=self._name, reason=reason)
        return None

    def _broken_off(self, error: GatewayError | None) -> GatewayError:
        """What a stream without its end means: a last line that is no JSON was cut off like the rest."""
        if error is None or error.reason.name == "UPSTREAM_INVALID":
            return upstream_errors.cut_short(self._name)
        return error

    def _measured(self, model: str, request: ChatRequest, answer: wire.Answer) -> None:
        """Count what Ollama measured, and log what the caller's report says of a prompt that was cut."""
        for note in request.window.notes(answer.prompt_eval_count):
            _log.warning("prompt cut", model=model, detail=note.detail)
        for phase, field in _PHASES:
            if duration := getattr(answer, field):
                metrics.upstream_phase(self._name, phase, duration / 1e9)


def _credentials(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}
