"""Anthropic's adapter: joins the translators to the upstream client. https://platform.claude.com/docs/en/api/overview."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
from aigateway.v1 import model_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.sse import SSEReader, SSEvent

from aigateway_providers import upstream_errors
from aigateway_providers.anthropic import errors, models, request, response
from aigateway_providers.anthropic.blocks import DIALECT
from aigateway_providers.anthropic.splice import UNREADABLE
from aigateway_providers.anthropic.stream import StreamReader
from aigateway_providers.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aigateway.v1 import chat_pb2, embedding_pb2

    from aigateway_providers.adapter import CallContext
    from aigateway_providers.settings import ProviderSettings
    from aigateway_providers.upstream import UpstreamResponse

VERSION: Final = "2023-06-01"
"""The `anthropic-version` that the translators speak; the settings, or a caller of its dialect, may name another."""
_MESSAGES: Final = "/v1/messages"
_PAGE_SIZE: Final = 1000
_MAX_PAGES: Final = 50


def create(settings: ProviderSettings) -> AnthropicAdapter:
    """The adapter for `settings`."""
    return AnthropicAdapter(settings)


class AnthropicAdapter:
    """Claude models by the Messages API."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._name = settings.name
        configured = {name.lower() for name in settings.headers}
        self._own_key = "x-api-key" not in configured
        self._upstream = Upstream(settings, self._credentials(settings.api_key))
        self._configured = configured & {"anthropic-version", "anthropic-beta"}

    def rekey(self, key: str) -> None:
        """See `Keyed`."""
        self._upstream.rekey(self._credentials(key))

    @property
    def capabilities(self) -> model_pb2.Capabilities:
        """What the adapter can do."""
        return model_pb2.Capabilities(
            provider=self._name,
            dialect=DIALECT,
            chat=True,
            list_models=True,
            tools=True,
            images=True,
            files=True,
            structured_output=True,
            reasoning=True,
            finish_reasons=response.FINISH_REASONS,
            count_tokens=True,
        )

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        """The whole answer."""
        sent = request.build(call, self._settings, stream=False)
        status, headers, body = await self._upstream.fetch(
            "POST", _MESSAGES, context=context, body=sent.body, headers=self._headers(sent.headers)
        )
        if status != 200:
            raise errors.from_answer(self._name, status, headers, body)
        try:
            return response.completion(body, sent, created=int(time.time()))
        except UNREADABLE as error:
            raise self._misread(body, status) from error

    async def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        """The answer in events; each item is what one upstream read brought."""
        sent = request.build(call, self._settings, stream=True)
        opened = await self._upstream.send(
            "POST", _MESSAGES, context=context, body=sent.body, headers=self._headers(sent.headers)
        )
        async with opened as answer:
            if answer.status != 200:
                raise errors.from_answer(self._name, answer.status, answer.headers, await answer.read())
            if "event-stream" not in answer.media_type:
                raise self._misread(await answer.read(), answer.status)
            async for events in self._events(answer, sent):
                yield events

    async def count_tokens(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.TokenCount:
        """The tokens of the prompt."""
        sent = request.count(call, self._settings)
        status, headers, body = await self._upstream.fetch(
            "POST", f"{_MESSAGES}/count_tokens", context=context, body=sent.body, headers=self._headers(sent.headers)
        )
        if status != 200:
            raise errors.from_answer(self._name, status, headers, body)
        try:
            return response.token_count(body, sent)
        except UNREADABLE as error:
            raise self._misread(body, status) from error

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:  # noqa: ARG002 - the seam
        """Refused: Anthropic has no embeddings."""
        raise GatewayError(
            "UNIMPLEMENTED",
            "anthropic has no embeddings; use a model of another provider",
            details={"provider": self._name},
        )

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:
        """The models, all pages of them."""
        found: list[model_pb2.Model] = []
        after = ""
        for _ in range(_MAX_PAGES):
            path = f"/v1/models?limit={_PAGE_SIZE}" + (f"&after_id={quote(after, safe='')}" if after else "")
            status, headers, body = await self._upstream.fetch("GET", path, context=context, headers=self._headers({}))
            if status != 200:
                raise errors.from_answer(self._name, status, headers, body)
            try:
                page = models.page(body, self._name)
            except UNREADABLE as error:
                raise self._misread(body, status) from error
            found += page.models
            after = page.next_after
            if not after:
                break
        return found

    async def aclose(self) -> None:
        """Close the upstream connections."""
        await self._upstream.aclose()

    def _credentials(self, key: str) -> dict[str, str]:
        return {"x-api-key": key} if key and self._own_key else {}

    def _headers(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The headers of one request; what the settings fix is there already."""
        headers = {"anthropic-version": VERSION, **wanted}
        return {name: value for name, value in headers.items() if name not in self._configured}

    async def _events(
        self, answer: UpstreamResponse, sent: request.Request
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        sse = SSEReader()
        stream = StreamReader(self._name, sent, created=int(time.time()))
        try:
            async for chunk in answer.chunks():
                events, failure = self._read(stream, sse.feed(chunk))
                if events and (failure is None or _has_content(events)):
                    yield events
                if failure is not None:
                    raise failure
        except GatewayError:
            if not stream.finished:
                raise
            return  # the answer is complete; how the connection ends no longer matters
        events, failure = self._read(stream, sse.close())
        if events:
            yield events
        if not stream.finished:
            raise failure or upstream_errors.cut_short(self._name)

    def _read(
        self, stream: StreamReader, records: list[SSEvent]
    ) -> tuple[list[chat_pb2.ChatEvent], GatewayError | None]:
        """The events of `records` up to the first failure, and that failure."""
        events: list[chat_pb2.ChatEvent] = []
        try:
            for record in records:
                if record.event == "error" and not stream.finished:
                    return events, errors.from_event(self._name, record.data)
                stream.feed(record.data, events)
        except GatewayError as failure:
            return events, failure
        except UNREADABLE:
            return events, self._misread(record.data, 200)
        return events, None

    def _misread(self, body: bytes, status: int) -> GatewayError:
        """The error for a 200 that is no answer: an error object after all, or something else altogether."""
        try:
            is_error = msgspec.json.decode(body, type=_Typed).type == "error"
        except UNREADABLE:
            is_error = False
        return errors.from_event(self._name, body) if is_error else upstream_errors.not_json(self._name, status)


def _has_content(events: list[chat_pb2.ChatEvent]) -> bool:
    """Whether a caller would miss these events; the mere beginning of an answer that then fails is no answer."""
    return len(events) > 1 or not events[0].HasField("start")


class _Typed(msgspec.Struct):
    type: str = ""
