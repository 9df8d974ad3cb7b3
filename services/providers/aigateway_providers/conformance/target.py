"""The adapter under test as a caller sees it, and what the provider behind it is made to say where that can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import grpc
from aigateway.v1 import model_pb2, provider_service_pb2, provider_service_pb2_grpc
from aigateway_common.errors import DOMAIN, STATUS_DETAILS_KEY
from aigateway_common.reasons import REASONS
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from aigateway_providers.conformance.events import Streamed, add_up
from aigateway_providers.conformance.verdict import Failed, Skipped, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from aigateway.v1 import chat_pb2, embedding_pb2

Scenario = Literal[
    "text",
    "tools",
    "parallel_tools",
    "structured",
    "reasoning",
    "embeddings",
    "models",
    "unknown_model",
    "key_refused",
    "rate_limited",
    "server_error",
    "truncated",
    "silent",
    "unfinished",
]
"""What the provider does next: answer so, or fail so. `silent` never answers, `unfinished` begins to and then hangs."""

RETRY_SECONDS = 7.0
"""How long a provider that is `rate_limited` asks to wait."""


class Script(Protocol):
    """A provider stand-in that does as it is told."""

    def play(self, scenario: Scenario) -> None:
        """From now on, do this."""

    async def hung_up(self) -> bool:
        """Whether the adapter closes the connection of the call before, waiting a moment for it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call failed."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str]
    retry_after: float | None
    """Seconds."""


class Target:
    """One adapter."""

    def __init__(
        self,
        channel: aio.Channel,
        *,
        model: str,
        embed_model: str,
        timeout: float,
        script: Script | None,
    ) -> None:
        self.stub = provider_service_pb2_grpc.ProviderServiceStub(channel)
        self.timeout = timeout
        """Seconds that a call may take."""
        self.script = script
        self.capabilities = model_pb2.Capabilities()
        self.models: list[model_pb2.Model] = []
        self._model = model
        self._embed_model = embed_model

    @property
    def live(self) -> bool:
        """Whether a real provider is behind the adapter, which cannot be told what to answer."""
        return self.script is None

    def play(self, scenario: Scenario) -> None:
        """Have the provider do this, where it can be told."""
        if self.script is not None:
            self.script.play(scenario)

    async def look_around(self) -> None:
        """Ask what the adapter can do and which models it has; a failure leaves the cases to say so."""
        answer = await self.stub.GetCapabilities(provider_service_pb2.GetCapabilitiesRequest(), timeout=self.timeout)
        self.capabilities = answer.capabilities
        if self.capabilities.list_models:
            self.play("models")
            try:
                self.models = list((await self.list_models()).models)
            except aio.AioRpcError:
                self.models = []

    def model(self, ability: Literal["", "tools", "reasoning", "structured_output"] = "") -> str:
        """The model to call: the one named by the user unless the list says that it lacks `ability` and another has it.

        Raises:
            Skipped: Nobody named a model, and the list does not say which one writes text.
        """
        writers = [model for model in self.models if "text" in model.output_modalities]
        named = self._model or next((model.id for model in writers), "")
        if not named:
            raise Skipped("no model is known; name one with --model")
        known = next((model for model in self.models if model.id == named), None)
        if ability and known is not None and known.HasField(ability) and not getattr(known, ability):
            return next((model.id for model in self.models if getattr(model, ability)), named)
        return named

    def embed_model(self) -> str:
        """The model that embeds.

        Raises:
            Skipped: Nobody named one, and the list does not say which one does.
        """
        listed = (model.id for model in self.models if "embedding" in model.output_modalities)
        if name := self._embed_model or next(listed, ""):
            return name
        raise Skipped("no model is known to embed; name one with --embed-model")

    async def chat(self, call: chat_pb2.ChatCall) -> chat_pb2.ChatCompletion:
        """The whole answer."""
        request = provider_service_pb2.ProviderServiceChatRequest(call=call)
        answer = await self.stub.Chat(request, timeout=self.timeout)
        require(answer.HasField("completion"), "the answer has no `completion`")
        require(answer.completion.choices, "the answer has no choices")
        return answer.completion

    async def stream(self, call: chat_pb2.ChatCall) -> Streamed:
        """The streamed answer, its order checked."""
        request = provider_service_pb2.ProviderServiceStreamChatRequest(call=call)
        stream = self.stub.StreamChat(request, timeout=self.timeout)
        messages: list[provider_service_pb2.ProviderServiceStreamChatResponse] = []
        try:
            async for message in stream:
                messages.append(message)  # noqa: PERF401 - kept when the stream fails, too
        except aio.AioRpcError:
            add_up(messages, whole=False)
            raise
        return add_up(messages, whole=True)

    async def embed(self, call: embedding_pb2.EmbedCall) -> embedding_pb2.Embeddings:
        """The vectors."""
        request = provider_service_pb2.ProviderServiceEmbedRequest(call=call)
        return (await self.stub.Embed(request, timeout=self.timeout)).embeddings

    async def list_models(self) -> provider_service_pb2.ProviderServiceListModelsResponse:
        """The models."""
        return await self.stub.ListModels(provider_service_pb2.ProviderServiceListModelsRequest(), timeout=self.timeout)

    async def refused(self, answer: Awaitable[object], codes: Sequence[grpc.StatusCode], what: str) -> Refusal:
        """How `answer` failed, which it must, with one of `codes` and with details.

        Raises:
            Failed: It did not, or with another code, or without `ErrorInfo`.
        """
        try:
            await answer
        except aio.AioRpcError as error:
            refusal = read_refusal(error)
            expected = " or ".join(code.name for code in codes)
            require(refusal.code in codes, f"{what}: {refusal.code.name} came instead of {expected}: {refusal.message}")
            return refusal
        raise Failed(f"{what}: was answered as if nothing were wrong")


def read_refusal(error: aio.AioRpcError) -> Refusal:
    """The details of a failed call.

    Raises:
        Failed: There are none, or they are not of the contract.
    """
    code: Any = error.code()
    raw = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS_KEY)
    if not isinstance(raw, bytes):
        raise Failed(f"{code.name} came without `google.rpc.Status` details: {error.details()}")
    status = status_pb2.Status.FromString(raw)
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after: float | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    require(info.domain == DOMAIN, f"{code.name}: the domain of `ErrorInfo` is `{info.domain}`, not `{DOMAIN}`")
    known = REASONS.get(info.reason)
    if known is None:
        raise Failed(f"{code.name}: the reason `{info.reason}` of `ErrorInfo` is none of docs/errors.md")
    require(known.code is code, f"the reason {info.reason} belongs to {known.code.name}, not {code.name}")
    require(status.message, f"{info.reason} came without a message")
    return Refusal(code, info.reason, status.message, dict(info.metadata), retry_after)
