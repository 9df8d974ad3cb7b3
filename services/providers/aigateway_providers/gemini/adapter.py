"""The Gemini adapter: joins the translators to one upstream client on the native v1beta API."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
from aigateway.v1 import model_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import upstream_errors
from aigateway_providers.adapter import CallContext
from aigateway_providers.gemini import (
    counting,
    embeddings,
    errors,
    media,
    models,
    records,
    request,
    response,
    signatures,
    wire,
)
from aigateway_providers.gemini.stream import ChatStream
from aigateway_providers.media_fetch import MediaFetcher
from aigateway_providers.report import Report
from aigateway_providers.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aigateway.v1 import chat_pb2, embedding_pb2

    from aigateway_providers.adapter import Adapter
    from aigateway_providers.settings import ProviderSettings

_BATCHES_AT_ONCE: Final = 4
"""Requests of one embedding call that are under way together; more would only meet the provider's rate limit sooner."""
_MAX_PAGES: Final = 50
"""Pages of the model list that are read at most, against a provider whose pages never end."""


def create(settings: ProviderSettings) -> Adapter:
    """The adapter for `settings`."""
    return GeminiAdapter(settings)


class GeminiAdapter:
    """Google's Gemini API. See `Adapter` for what the methods promise."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._name = settings.name
        self._upstream = Upstream(settings, _credentials(settings.api_key))
        self._media = MediaFetcher(settings, media.TAKES)
        self._signatures = signatures.Signatures()
        self._capabilities = model_pb2.Capabilities(
            provider=settings.name,
            dialect=wire.DIALECT,
            chat=True,
            embed=True,
            list_models=True,
            tools=True,
            images=True,
            audio=True,
            files=True,
            structured_output=True,
            reasoning=True,
            count_tokens=True,
            finish_reasons=(*response.FINISH_REASONS, *response.BLOCK_REASONS),
        )

    def rekey(self, key: str) -> None:
        """See `Keyed`."""
        self._upstream.rekey(_credentials(key))

    @property
    def capabilities(self) -> model_pb2.Capabilities:
        """What the adapter can do."""
        return self._capabilities

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        """The whole answer."""
        call = await self._media.inline(call, context)
        report = Report(call.translation_policy)
        body = request.chat_body(call, report, self._signatures.lookup(call.model))
        notes = report.settle()
        answer = await self._fetch("POST", _path(call.model, "generateContent"), context, body)
        try:
            found = response.completion(answer, model=call.model, created=int(time.time()), notes=notes)
        except upstream_errors.UNREADABLE as error:
            raise self._unreadable(answer) from error
        self._signatures.keep(call, signatures.of_completion(found))
        return found

    async def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        """The answer in events."""
        call = await self._media.inline(call, context)
        report = Report(call.translation_policy)
        body = request.chat_body(call, report, self._signatures.lookup(call.model))
        notes = report.settle()
        path = _path(call.model, "streamGenerateContent") + "?alt=sse"
        async with await self._upstream.send("POST", path, context=context, body=body) as answer:
            reader = records.reader(answer.media_type)
            if answer.status >= 400:
                raise errors.from_body(self._name, answer.status, await answer.read(), answer.headers)
            if reader is None:
                raise upstream_errors.not_json(self._name, answer.status)
            stream = ChatStream(reader, provider=self._name, model=call.model, created=int(time.time()), notes=notes)
            try:
                async for chunk in answer.chunks():
                    if events := stream.feed(chunk):
                        self._signatures.keep(call, signatures.of_events(events))
                        yield events
                    if stream.failure is not None:
                        raise stream.failure
            except GatewayError:
                if stream.failure is None and (events := stream.interrupted()):
                    yield events  # the connection broke: what was used so far is known
                raise
            if events := stream.close():
                self._signatures.keep(call, signatures.of_events(events))
                yield events
            if stream.failure is not None:
                raise stream.failure

    async def count_tokens(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.TokenCount:
        """The tokens of the prompt."""
        call = await self._media.inline(call, context)
        report = Report(call.translation_policy)
        body = counting.count_body(
            request.chat_body(call, report, self._signatures.lookup(call.model)), _resource(call.model)
        )
        notes = report.settle()
        answer = await self._fetch("POST", _path(call.model, "countTokens"), context, body)
        try:
            return counting.token_count(answer, notes)
        except upstream_errors.UNREADABLE as error:
            raise self._unreadable(answer) from error

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:
        """The vectors; more texts than the API takes at once go in several requests, and the first failure ends all."""
        report = Report(call.translation_policy)
        asked = embeddings.embed_requests(call, _resource(call.model), report)
        notes = report.settle()
        path = _path(call.model, "batchEmbedContents")
        if len(asked) == 1:
            batches = [await self._batch(path, context, asked[0])]
        else:
            batches = await self._batches(path, context, asked)
        try:
            return embeddings.joined(batches, call, notes)
        except upstream_errors.UNREADABLE as error:
            raise wire.unreadable(self._name) from error

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:
        """The models that chat or embed."""
        found: list[model_pb2.Model] = []
        token = ""
        for _ in range(_MAX_PAGES):
            answer = await self._fetch("GET", models.path(token), context)
            try:
                page, token = models.page(answer, self._name)
            except upstream_errors.UNREADABLE as error:
                raise self._unreadable(answer) from error
            found += page
            if not token:
                break
        return found

    async def aclose(self) -> None:
        """Close the upstream connections."""
        await self._upstream.aclose()
        await self._media.aclose()

    async def _batches(self, path: str, context: CallContext, asked: list[embeddings.Asked]) -> list[embeddings.Batch]:
        """The answers to all that is `asked`, a few under way at a time, and none once this returns or raises."""
        waiting = iter(enumerate(asked))
        found: dict[int, embeddings.Batch] = {}
        started = time.perf_counter_ns()

        async def work() -> None:
            for number, one in waiting:
                own = CallContext(request_id=context.request_id)
                try:
                    found[number] = await self._batch(path, own, one)
                except GatewayError:
                    context.upstream_status = own.upstream_status
                    raise
                context.upstream_status = own.upstream_status

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_BATCHES_AT_ONCE, len(asked))):
                    group.create_task(work())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        finally:
            # They wait side by side: the sum of their times would be longer than the call.
            context.upstream_ns += time.perf_counter_ns() - started
        return [found[number] for number in range(len(asked))]

    async def _batch(self, path: str, context: CallContext, asked: embeddings.Asked) -> embeddings.Batch:
        answer = await self._fetch("POST", path, context, asked.body)
        try:
            return embeddings.batch(answer, asked.texts)
        except upstream_errors.UNREADABLE as error:
            raise self._unreadable(answer) from error

    async def _fetch(self, method: str, path: str, context: CallContext, body: bytes | None = None) -> bytes:
        status, headers, answer = await self._upstream.fetch(method, path, context=context, body=body)
        if status >= 400:
            raise errors.from_body(self._name, status, answer, headers)
        return answer

    def _unreadable(self, answer: bytes) -> GatewayError:
        """The error for a 200 whose body is no answer: an error after all, other JSON, or no JSON."""
        try:
            found = wire.fields(answer)
        except msgspec.ValidationError:
            return errors.from_body(self._name, 0, answer) if b'"error"' in answer else wire.unreadable(self._name)
        except upstream_errors.UNREADABLE:
            return upstream_errors.not_json(self._name, 200)
        return errors.from_body(self._name, 0, answer) if "error" in found else wire.unreadable(self._name)


def _resource(model: str) -> str:
    """The model as the API names it, such as `models/gemini-2.5-flash`."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def _path(model: str, method: str) -> str:
    return f"/v1beta/{quote(_resource(model), safe='/')}:{method}"


def _credentials(key: str) -> dict[str, str]:
    return {"x-goog-api-key": key} if key else {}
