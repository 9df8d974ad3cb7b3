"""The adapter of every host that speaks OpenAI's protocol: joins the translators to one upstream client."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import message_pb2, model_pb2
from aigateway_common.errors import GatewayError
from aigateway_common.sse import SSEReader

from aigateway_providers import upstream_errors
from aigateway_providers.openai_compat import embeddings, errors, models, request, response
from aigateway_providers.openai_compat.messages import DIALECT
from aigateway_providers.openai_compat.profiles import profile_of
from aigateway_providers.openai_compat.stream import StreamTranslator
from aigateway_providers.openai_responses import request as responses_request
from aigateway_providers.openai_responses import response as responses_response
from aigateway_providers.openai_responses.models import responses_only
from aigateway_providers.openai_responses.stream import StreamTranslator as ResponsesTranslator
from aigateway_providers.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from aigateway.v1 import chat_pb2, embedding_pb2
    from aigateway_common.sse import SSEvent

    from aigateway_providers.adapter import Adapter, CallContext, Tell
    from aigateway_providers.openai_compat.profiles import HostProfile
    from aigateway_providers.settings import ProviderSettings
    from aigateway_providers.upstream import UpstreamResponse

_RESPONSES: Final = message_pb2.DIALECT_OPENAI_RESPONSES
_STUMBLED: Final = (*upstream_errors.UNREADABLE, AttributeError)
"""What the translators raise for an answer that is no answer of OpenAI's API."""
_NO_EVENTS: Final = frozenset({"application/json", "text/html"})
_END_SECONDS: Final = 0.5
"""How long a host may take to end a stream that it called complete; past it the connection is not used again."""


def create(settings: ProviderSettings) -> Adapter:
    """The adapter for `settings.kind`."""
    return OpenAICompatAdapter(settings, profile_of(settings.kind, settings.base_url))


class OpenAICompatAdapter:
    """One OpenAI-compatible host."""

    def __init__(self, settings: ProviderSettings, profile: HostProfile) -> None:
        self._name = settings.name
        self._profile = profile
        self._upstream = Upstream(settings, _credentials(settings.api_key))
        self._chat_path = f"{profile.prefix}/chat/completions"
        self._responses_path = f"{profile.prefix}/responses"
        self._understood = _Understood(settings.name)

    def rekey(self, key: str) -> None:
        """See `Keyed`."""
        self._upstream.rekey(_credentials(key))

    @property
    def capabilities(self) -> model_pb2.Capabilities:
        """What the adapter can do."""
        return model_pb2.Capabilities(
            provider=self._name,
            dialect=DIALECT,
            chat=True,
            embed=self._profile.embeddings,
            list_models=True,
            tools=True,
            images=True,
            audio=self._profile.files,
            files=self._profile.files,
            structured_output=True,
            reasoning=True,
            finish_reasons=response.FINISH_REASONS,
        )

    async def chat(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        """The whole answer."""
        if self._by_responses(call):
            return await self._respond(call, context)
        body, notes = request.to_body(call, self._profile, provider=self._name, stream=False)
        answer = await self._fetch("POST", self._chat_path, context, body)
        with self._understood:
            return response.to_completion(answer, notes)

    async def stream_chat(
        self, call: chat_pb2.ChatCall, context: CallContext
    ) -> AsyncGenerator[list[chat_pb2.ChatEvent], None]:
        """The answer in events, one list for each read that brought some."""
        translator: StreamTranslator | ResponsesTranslator
        if self._by_responses(call):
            path = self._responses_path
            body, notes = responses_request.to_body(call, self._profile, provider=self._name, stream=True)
            translator = ResponsesTranslator(self._name, notes, own=call.dialect == _RESPONSES)
        else:
            path = self._chat_path
            body, notes = request.to_body(call, self._profile, provider=self._name, stream=True)
            translator = StreamTranslator(self._name, notes)
        async with await self._upstream.send("POST", path, context=context, body=body) as answer:
            await self._expect_events(answer)
            reader = SSEReader()
            chunks = answer.chunks()
            plain = translator.plain if isinstance(translator, StreamTranslator) else None
            if plain is not None and context.tell is not None:
                answer.shorten(_shortcut(reader, plain, context.tell))
            async for chunk in chunks:
                if plain is not None and reader.between and (event := plain(chunk)) is not None:
                    yield [event]
                    continue
                events, failure = self._translate(reader.feed(chunk), translator)
                if events:
                    yield events
                if failure:
                    raise failure
                if translator.done:
                    await _to_the_end(chunks)
                    return
            events, failure = self._translate(reader.close(), translator)
            events += translator.close()
            if events:
                yield events
            if not translator.done:
                raise failure or upstream_errors.cut_short(self._name)

    async def embed(self, call: embedding_pb2.EmbedCall, context: CallContext) -> embedding_pb2.Embeddings:
        """The vectors, in the order of the inputs."""
        if not self._profile.embeddings:
            raise GatewayError("UNIMPLEMENTED", f"{self._name} offers no embeddings", details={"provider": self._name})
        body, notes = embeddings.to_body(call, provider=self._name)
        answer = await self._fetch("POST", f"{self._profile.prefix}/embeddings", context, body)
        with self._understood:
            return embeddings.to_embeddings(answer, len(call.inputs), notes)

    async def list_models(self, context: CallContext) -> list[model_pb2.Model]:
        """The host's models."""
        answer = await self._fetch("GET", f"{self._profile.prefix}/models", context)
        with self._understood:
            return models.to_models(answer, self._name)

    async def aclose(self) -> None:
        """Close the upstream connections."""
        await self._upstream.aclose()

    def _by_responses(self, call: chat_pb2.ChatCall) -> bool:
        """Whether the call goes to the Responses API: the caller speaks it, or the model is found nowhere else."""
        return self._profile.responses and (call.dialect == _RESPONSES or responses_only(call.model))

    async def _respond(self, call: chat_pb2.ChatCall, context: CallContext) -> chat_pb2.ChatCompletion:
        body, notes = responses_request.to_body(call, self._profile, provider=self._name, stream=False)
        status, content = await self._content("POST", self._responses_path, context, body)
        if not content.lstrip().startswith(b"{"):
            raise upstream_errors.not_json(self._name, status)
        with self._understood:
            return responses_response.to_completion(content, notes, provider=self._name)

    async def _content(
        self, method: str, path: str, context: CallContext, body: bytes | None = None
    ) -> tuple[int, bytes]:
        status, headers, content = await self._upstream.fetch(method, path, context=context, body=body)
        if status >= 300:
            raise errors.from_answer(self._name, status, headers, content)
        return status, content

    async def _fetch(self, method: str, path: str, context: CallContext, body: bytes | None = None) -> dict[str, Any]:
        status, content = await self._content(method, path, context, body)
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise upstream_errors.not_json(self._name, status) from error
        if not isinstance(answer, dict):
            raise upstream_errors.not_json(self._name, status)
        if answer.get("error"):
            raise errors.from_event(self._name, answer["error"])
        return answer

    async def _expect_events(self, answer: UpstreamResponse) -> None:
        """Raise what the answer says unless it is an event stream; hosts that name no type are taken at their word."""
        if answer.status < 300 and answer.media_type not in _NO_EVENTS:
            return
        content = await answer.read()
        if answer.status >= 300:
            raise errors.from_answer(self._name, answer.status, answer.headers, content)
        with suppress(orjson.JSONDecodeError):
            parsed = orjson.loads(content)
            if isinstance(parsed, dict) and parsed.get("error"):
                raise errors.from_event(self._name, parsed["error"])
        raise GatewayError(
            "UPSTREAM_INVALID",
            f"{self._name} did not answer with an event stream; check its base URL",
            details={"provider": self._name, "upstream_status": str(answer.status)},
        )

    def _translate(
        self, records: list[SSEvent], translator: StreamTranslator | ResponsesTranslator
    ) -> tuple[list[chat_pb2.ChatEvent], GatewayError | None]:
        """The events of some records, and the error that came after them."""
        events: list[chat_pb2.ChatEvent] = []
        try:
            for record in records:
                translator.feed(record.data, events)
        except GatewayError as failure:
            return events, failure
        except _STUMBLED as error:
            strange = _strange(self._name)
            strange.__cause__ = error
            return events, strange
        return events, None


class _Understood:
    """A context in which an answer that the translators stumble over is the provider's fault."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _STUMBLED):
            raise _strange(self._name) from error


def _strange(name: str) -> GatewayError:
    return GatewayError(
        "UPSTREAM_INVALID",
        f"{name} answered with JSON that does not follow OpenAI's API",
        details={"provider": name},
    )


def _shortcut(
    reader: SSEReader, plain: Callable[[bytes], chat_pb2.ChatEvent | None], tell: Tell
) -> Callable[[bytes], bool]:
    """What tells of a piece that is one plain record at once, while the stream waits for it."""

    def take(piece: bytes) -> bool:
        return reader.between and (event := plain(piece)) is not None and tell([event])

    return take


async def _to_the_end(chunks: AsyncIterator[bytes]) -> None:
    """Read the end of a complete stream, so that its connection can be used again."""
    with suppress(TimeoutError, GatewayError):
        async with asyncio.timeout(_END_SECONDS):
            async for _ in chunks:
                pass


def _credentials(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}
