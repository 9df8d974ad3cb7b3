"""Sends a call where it goes and brings the answer back.

What is tried is `pursuit`; what a try is, `unary` and `streams`. Knows nothing of names (`routes`) or keys (`callers`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    provider_service_pb2,
    provider_service_pb2_grpc,
    usage_service_pb2,
)
from aigateway_common.errors import from_rpc_error
from aigateway_common.streaming import putter
from grpc import aio

from aigateway_router import estimates, unary
from aigateway_router.attempt_guard import Errand, Guard
from aigateway_router.policies import Policies
from aigateway_router.policy.balance import sticky_key
from aigateway_router.pursuit import Pursuer, Quest
from aigateway_router.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway.v1 import model_pb2, router_admin_service_pb2
    from aigateway.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub
    from aigateway_common.telemetry import Telemetry

    from aigateway_router.calls import Call
    from aigateway_router.metering import StreamMeter
    from aigateway_router.policy.budget import Budgets
    from aigateway_router.policy.places import Places
    from aigateway_router.routes import Target
    from aigateway_router.settings import RouterSettings
    from aigateway_router.usage_emitter import UsageEmitter

_PROBE_SECONDS: Final = 10.0
UNSAID_OUTPUT: Final = 4096
"""Tokens of an answer, for whose cost money is set aside, where the call does not limit them."""


class Dispatcher:
    """Makes attempts.

    Args:
        providers: A channel to the adapter of each enabled provider.
        emitter: Where usage events go.
        budgets: Where money is set aside.
        telemetry: Where spans go.
        settings: The policies, and the seconds for a call whose caller set no deadline.
        places: Where places at providers are counted.
    """

    def __init__(
        self,
        providers: Mapping[str, aio.Channel],
        emitter: UsageEmitter,
        budgets: Budgets,
        telemetry: Telemetry,
        settings: RouterSettings,
        places: Places,
    ) -> None:
        self._stubs: dict[str, ProviderServiceAsyncStub] = {
            name: provider_service_pb2_grpc.ProviderServiceStub(channel) for name, channel in providers.items()
        }
        self._guard = Guard(emitter, telemetry, settings.default_timeout)
        self._settings = settings
        self._policies = Policies(settings, self._stubs, self._models, places)
        self._pursuer = Pursuer(self._policies, budgets, settings.default_timeout)

    async def chat(
        self, call: Call, request: chat_pb2.ChatCall, steps: Sequence[Target]
    ) -> gateway_service_pb2.ChatResponse:
        """The whole answer. Raises GatewayError."""

        async def run(errand: Errand) -> gateway_service_pb2.ChatResponse:
            return await unary.chat(self._guard, self._stubs[errand.target.provider], errand, request)

        found = await self._pursuer.pursue(
            Quest(
                call,
                usage_service_pb2.OPERATION_CHAT,
                request.model,
                steps,
                run,
                _drop,
                partial(_chat_tokens, request),
                self._sticky(call, request, steps),
                self._hedge(call.model, steps),
            )
        )
        found.lease.end(None)
        return found.result

    async def embed(
        self, call: Call, request: embedding_pb2.EmbedCall, steps: Sequence[Target]
    ) -> gateway_service_pb2.EmbedResponse:
        """The vectors. Raises GatewayError."""

        async def run(errand: Errand) -> gateway_service_pb2.EmbedResponse:
            return await unary.embed(self._guard, self._stubs[errand.target.provider], errand, request)

        def tokens() -> tuple[int, int]:
            return estimates.embed_prompt(request), 0

        found = await self._pursuer.pursue(
            Quest(call, usage_service_pb2.OPERATION_EMBED, request.model, steps, run, _drop, tokens)
        )
        found.lease.end(None)
        return found.result

    async def count_tokens(
        self, call: Call, request: chat_pb2.ChatCall, steps: Sequence[Target]
    ) -> gateway_service_pb2.CountTokensResponse:
        """The tokens of the prompt. Raises GatewayError. Nothing stands in: other models count otherwise."""

        async def run(errand: Errand) -> gateway_service_pb2.CountTokensResponse:
            return await unary.count_tokens(self._guard, self._stubs[errand.target.provider], errand, request)

        found = await self._pursuer.pursue(
            Quest(call, usage_service_pb2.OPERATION_UNSPECIFIED, request.model, steps[:1], run, _drop, None)
        )
        found.lease.end(None)
        return found.result

    async def stream(
        self,
        call: Call,
        request: chat_pb2.ChatCall,
        steps: Sequence[Target],
        context: aio.ServicerContext[Any, Any],
        meter: StreamMeter | None,
    ) -> None:
        """The answer in messages, each written to `context`; `meter` learns what has come of it.

        Raises GatewayError, also after some were written.
        """

        async def run(errand: Errand) -> Stream:
            return await Stream(self._guard, errand, request).open(self._stubs[errand.target.provider])

        found = await self._pursuer.pursue(
            Quest(
                call,
                usage_service_pb2.OPERATION_STREAM_CHAT,
                request.model,
                steps,
                run,
                Stream.abandon,
                partial(_chat_tokens, request),
                self._sticky(call, request, steps),
                self._hedge(call.model, steps),
            )
        )
        if meter is not None:
            meter.state = found.result.state
        try:
            await found.result.forward(context.write, putter(context))
        except BaseException as error:
            found.lease.end(error)
            raise
        found.lease.end(None)

    def health(self) -> router_admin_service_pb2.GetRouterHealthResponse:
        """How every provider is."""
        return self._policies.report()

    def start(self) -> None:
        """Begin what runs beside the calls."""
        self._policies.start()

    async def stop(self) -> None:
        """End what runs beside the calls."""
        await self._policies.stop()

    def _sticky(self, call: Call, request: chat_pb2.ChatCall, steps: Sequence[Target]) -> str | None:
        pool = self._settings.pools.get(steps[0].provider)
        return None if pool is None else sticky_key(pool, call.metadata, request)

    def _hedge(self, name: str, steps: Sequence[Target]) -> float | None:
        hedging = self._settings.hedging
        if not hedging:
            return None
        return hedging.get(name, hedging.get(f"{steps[0].provider}/{steps[0].model}"))

    async def _models(self, provider: str) -> Sequence[model_pb2.Model]:
        """Ask for the list of models, which costs nothing. Raises GatewayError when there is no answer."""
        request = provider_service_pb2.ProviderServiceListModelsRequest()
        try:
            return (await self._stubs[provider].ListModels(request, timeout=_PROBE_SECONDS)).models
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from error


def _chat_tokens(request: chat_pb2.ChatCall) -> tuple[int, int]:
    """The tokens of the prompt, and the most that all answers may have."""
    options = request.options
    answer = options.max_output_tokens if options.HasField("max_output_tokens") else UNSAID_OUTPUT
    return estimates.chat_prompt(request), answer * max(1, options.n)


def _drop(_answer: object) -> None:
    """A whole answer that came second is in the ledger already."""
