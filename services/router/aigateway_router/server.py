"""GatewayService: identifies, checks, routes, limits and dispatches; every failure leaves as a status with details."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from aigateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common import attributes, logs, metrics
from aigateway_common.errors import GatewayError, abort
from aigateway_common.telemetry import SpanKind, Telemetry
from typing_extensions import override

from aigateway_router import admin, allowed, defaults, metering
from aigateway_router.accounts import Accounts
from aigateway_router.authn import KeyRing
from aigateway_router.callers import Callers, revoked
from aigateway_router.calls import Call
from aigateway_router.checks import check_chat, check_embed
from aigateway_router.delivery.rpc import RpcTransport
from aigateway_router.dispatch import Dispatcher
from aigateway_router.leftovers import Leftovers
from aigateway_router.models import ModelCatalog
from aigateway_router.outbox import Outbox
from aigateway_router.policy.budget import Budgets
from aigateway_router.policy.counters import MemoryCounters
from aigateway_router.policy.limits import Limits
from aigateway_router.policy.places import OwnPlaces
from aigateway_router.routes import Routes
from aigateway_router.running import RunningCalls, was_cut
from aigateway_router.usage_emitter import UsageEmitter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from grpc import aio

    from aigateway_router.delivery.stream import StreamTransport
    from aigateway_router.delivery.transport import Transport
    from aigateway_router.jwt_tokens import JwtTokens
    from aigateway_router.policy.limits import Estimate, Hold
    from aigateway_router.policy.machine import Machine
    from aigateway_router.policy.shared_counters import SharedCounters
    from aigateway_router.routes import Target
    from aigateway_router.settings import RouterSettings

    _Context = aio.ServicerContext[Any, Any]

_T = TypeVar("_T")

SERVICE_NAME: Final = "aigateway.v1.GatewayService"
LIST_MODELS: Final = "list_models"
_OFF: Final = Telemetry.off()

_log = logs.get("aigateway.router")


class RouterComponent:
    """The router as a service. Make it in the event loop that is to serve.

    Args:
        settings: See there.
        providers: A channel to the adapter of each enabled provider, by the provider's name.
        usage: A channel to the usage service; without it there are no issued keys or budgets, and nothing is recorded
            unless the settings name a stream of events.
        telemetry: Where spans go.

    Raises ValueError that names every alias or key that makes no sense, ConfigurationError when a client is missing.
    """

    service_names: tuple[str, ...] = (SERVICE_NAME, *admin.SERVICE_NAMES)

    def __init__(
        self,
        settings: RouterSettings,
        *,
        providers: Mapping[str, aio.Channel],
        usage: aio.Channel | None,
        telemetry: Telemetry = _OFF,
    ) -> None:
        self._enabled = tuple(providers)
        routes = self._routes(settings)
        self._stream = _stream(settings)
        self._transport: Transport | None = self._stream or (RpcTransport(usage) if usage is not None else None)
        self._outbox = None if self._transport is None else Outbox(settings, self._transport)
        self._leftovers = None if self._transport is None else Leftovers(settings, self._transport)
        self._catalog = ModelCatalog(providers, routes, settings)
        running = RunningCalls()
        self._accounts = Accounts(usage, settings, running.cut)
        self._tokens = _tokens(settings)
        self._callers = Callers(settings, self._accounts, self._tokens)
        self._machine = _machine(settings)
        places = self._machine.places if self._machine else OwnPlaces()
        self._shared = _shared(settings)
        self._limits = Limits(self._shared or (self._machine.counters if self._machine else MemoryCounters()), places)
        self.budgets = Budgets(usage, self._accounts)
        """Money for attempts."""
        self._dispatcher = Dispatcher(providers, UsageEmitter(self._outbox), self.budgets, telemetry, settings, places)
        self._servicer = _GatewayServicer(
            self._callers,
            running,
            self._limits,
            routes,
            self._dispatcher,
            self._catalog,
            telemetry,
        )
        self._door = admin.Door(settings.admin_keys, self._callers, usage, self._dispatcher.health)

    def reload(self, settings: RouterSettings) -> None:
        """Go by the keys, operators' too, aliases, groq models and fallbacks of `settings` in calls from now on.

        Redis and NATS are shown their login from the next connection on. Raises ValueError when the keys or aliases are
        wrong; then nothing has changed.
        """
        routes = self._routes(settings)
        operators = KeyRing(settings.admin_keys)
        self._callers.reload(settings.api_keys, guarded=bool(operators))
        self._door.reload(operators)
        self._catalog.reroute(routes)
        self._servicer.reload(routes)
        if self._shared is not None and settings.redis_url is not None:
            self._shared.log_in(settings.redis_url)
        if self._stream is not None:
            self._stream.log_in(settings.events)

    def _routes(self, settings: RouterSettings) -> Routes:
        return Routes(
            enabled=self._enabled,
            disabled=settings.disabled,
            aliases=settings.aliases,
            groq_models=settings.groq_models,
            pools=settings.pools,
            fallbacks=settings.fallbacks,
        )

    def register(self, server: aio.Server) -> None:
        """Add GatewayService and the administrative services to `server`."""
        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(self._servicer, server)
        self._door.register(server)

    async def start(self) -> None:
        """Open the outbox, and follow the accounts. Raises OutboxLockedError or OSError when it cannot be used."""
        if self._outbox is not None:
            await self._outbox.start()
        if self._leftovers is not None:
            self._leftovers.start()
        await self._accounts.start()
        self._dispatcher.start()

    async def stop(self, grace: float) -> None:
        """Deliver the usage events that are left, for at most `grace` seconds; the rest stays on disk."""
        await self._catalog.stop()
        await self._dispatcher.stop()
        await self.budgets.stop()
        await self._accounts.stop()
        await self._limits.stop()
        if self._tokens is not None:
            await self._tokens.stop()
        if self._leftovers is not None:
            await self._leftovers.stop()
        if self._outbox is not None:
            await self._outbox.stop(grace)
        if self._transport is not None:
            await self._transport.close()
        if self._machine is not None:
            self._machine.close()


class _GatewayServicer(gateway_service_pb2_grpc.GatewayServiceServicer):
    def __init__(
        self,
        callers: Callers,
        running: RunningCalls,
        limits: Limits,
        routes: Routes,
        dispatcher: Dispatcher,
        catalog: ModelCatalog,
        telemetry: Telemetry,
    ) -> None:
        self._callers = callers
        self._running = running
        self._limits = limits
        self._routes = routes
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._telemetry = telemetry

    def reload(self, routes: Routes) -> None:
        self._routes = routes

    @override
    async def Chat(
        self, request: gateway_service_pb2.ChatRequest, context: _Context
    ) -> gateway_service_pb2.ChatResponse:
        async def answer(call: Call) -> gateway_service_pb2.ChatResponse:
            check_chat(request.call)
            steps = await self._steps(call, request.call.model)
            asked = defaults.chat(call.caller, request.call)
            async with self._limited(call, metering.of_chat(call.caller, asked)) as hold:
                response = await self._dispatcher.chat(call, asked, steps)
                hold.used = metering.total(response.completion.usage)
            metrics.overhead("router", response.timing.router_us / 1e6)
            return response

        return await self._serve(attributes.CHAT, request.call.model, context, answer)

    @override
    async def StreamChat(  # type: ignore[override] # the stub types know generators only, not `context.write`
        self, request: gateway_service_pb2.StreamChatRequest, context: _Context
    ) -> None:
        async def answer(call: Call) -> None:
            check_chat(request.call)
            steps = await self._steps(call, request.call.model)
            call.span.set(attributes.REQUEST_STREAM, True)
            asked = defaults.chat(call.caller, request.call)
            estimate = metering.of_chat(call.caller, asked)
            async with self._limited(call, estimate) as hold:
                metrics.stream_opened("router")
                meter = estimate and metering.StreamMeter(estimate.prompt)
                try:
                    await self._dispatcher.stream(call, asked, steps, context, meter)
                finally:
                    hold.used = meter.tokens() if meter else 0
                    metrics.stream_closed("router")

        await self._serve(attributes.CHAT, request.call.model, context, answer)

    @override
    async def Embed(
        self, request: gateway_service_pb2.EmbedRequest, context: _Context
    ) -> gateway_service_pb2.EmbedResponse:
        async def answer(call: Call) -> gateway_service_pb2.EmbedResponse:
            check_embed(request.call)
            steps = await self._steps(call, request.call.model)
            async with self._limited(call, metering.of_embed(call.caller, request.call)) as hold:
                response = await self._dispatcher.embed(call, request.call, steps)
                hold.used = metering.total(response.embeddings.usage)
            metrics.overhead("router", response.timing.router_us / 1e6)
            return response

        return await self._serve(attributes.EMBEDDINGS, request.call.model, context, answer)

    @override
    async def CountTokens(
        self, request: gateway_service_pb2.CountTokensRequest, context: _Context
    ) -> gateway_service_pb2.CountTokensResponse:
        async def answer(call: Call) -> gateway_service_pb2.CountTokensResponse:
            check_chat(request.call)
            steps = await self._steps(call, request.call.model)
            async with self._limited(call, None):
                return await self._dispatcher.count_tokens(call, request.call, steps)

        return await self._serve(attributes.COUNT_TOKENS, request.call.model, context, answer)

    @override
    async def ListModels(
        self, request: gateway_service_pb2.ListModelsRequest, context: _Context
    ) -> gateway_service_pb2.ListModelsResponse:
        async def answer(call: Call) -> gateway_service_pb2.ListModelsResponse:
            return allowed.shown(call.caller, await self._catalog.list_models(request.provider))

        return await self._serve(LIST_MODELS, "", context, answer)

    async def _steps(self, call: Call, name: str) -> Sequence[Target]:
        """Where `name` leads, and what stands in.

        Raises GatewayError MODEL_NOT_FOUND, PROVIDER_DISABLED or PERMISSION_DENIED.
        """
        call.model = defaults.model(call.caller, name, self._routes)
        target = self._routes.resolve(call.model)
        if target is None:
            raise self._routes.not_found(call.model, allowed.names(call.caller, await self._catalog.ids()))
        allowed.check(call.caller, call.model, target)
        call.provider = target.provider
        if call.span.recording:
            call.span.set(attributes.PROVIDER, attributes.provider_name(target.provider))
            call.span.set(attributes.REQUEST_MODEL, target.model)
        return self._routes.steps(call.model, target)

    def _limited(self, call: Call, estimate: Estimate | None) -> _Limited:
        """Around what a call may use. Raises GatewayError RATE_LIMITED."""
        return _Limited(self._limits, call, estimate)

    async def _serve(
        self, operation: str, model: str, context: _Context, answer: Callable[[Call], Awaitable[_T]]
    ) -> _T:
        """Around every rpc: who calls, its span, and what becomes of failures."""
        call = self._begin(operation, model, context)
        try:
            call.caller = await self._callers.identify(call.metadata)
            if call.span.recording:
                call.span.set(attributes.KEY_ID, call.key_id or None)
                call.span.set(attributes.PROJECT, call.caller.project)
            self._running.enter(call)
            try:
                result = await answer(call)
            finally:
                self._running.leave(call)
        except GatewayError as error:
            await _fail(call, operation, context, error)
        except asyncio.CancelledError as cancelled:
            if was_cut(call):
                await _fail(call, operation, context, revoked())
            _end(call, operation, cancelled)
            raise
        except Exception:  # noqa: BLE001 -- the caller learns that it failed, the log learns why
            _log.exception("router failed", operation=operation)
            internal = GatewayError("INTERNAL", "internal error; the logs have it under the request id")
            await _fail(call, operation, context, internal)
        _end(call, operation, None)
        return result

    def _begin(self, operation: str, model: str, context: _Context) -> Call:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        span = self._telemetry.span(
            f"{operation} {model}" if model else operation, kind=SpanKind.SERVER, parent=metadata
        )
        call = Call(context, metadata, span)
        logs.bind(request_id=call.request_id, trace_id=span.trace_id, span_id=span.span_id)
        if span.recording:
            span.set(attributes.OPERATION, operation)
            span.set(attributes.REQUEST_ID, call.request_id)
            span.set(attributes.REQUESTED_MODEL, model or None)
        return call


class _Limited:
    """A call within its caller's limits. A class, since `asynccontextmanager` costs two microseconds a call more."""

    __slots__ = ("_call", "_estimate", "_hold", "_limits")

    def __init__(self, limits: Limits, call: Call, estimate: Estimate | None) -> None:
        self._limits = limits
        self._call = call
        self._estimate = estimate

    async def __aenter__(self) -> Hold:
        call = self._call
        hold = self._hold = await self._limits.admit(call.caller, self._estimate)
        call.request_limit, call.token_limit = hold.requests, hold.tokens
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hold, estimate = self._hold, self._estimate
        if estimate is not None and not hold.used and isinstance(error, asyncio.CancelledError):
            hold.used = estimate.prompt  # the provider read it, whoever reads the answer
        hold.end()


async def _fail(call: Call, operation: str, context: _Context, error: GatewayError) -> NoReturn:
    """End the call with `error`."""
    _end(call, operation, error)
    error.details.setdefault("request_id", call.request_id)
    await abort(context, error)


def _end(call: Call, operation: str, error: BaseException | None) -> None:
    call.span.end(error)
    status = metrics.OK
    if error is not None:
        status = error.reason.name if isinstance(error, GatewayError) else "CANCELLED"
    metrics.call_finished("router", operation, call.provider, status, call.elapsed_ns() / 1e9)


def _stream(settings: RouterSettings) -> StreamTransport | None:
    if settings.events is None:
        return None
    from aigateway_router.delivery.stream import StreamTransport  # noqa: PLC0415 -- loaded only with NATS

    return StreamTransport(settings.events)


def _tokens(settings: RouterSettings) -> JwtTokens | None:
    if settings.jwt is None:
        return None
    from aigateway_router.jwt_tokens import JwtTokens  # noqa: PLC0415 -- loaded only where tokens are taken

    return JwtTokens(settings.jwt, settings.key_grace)


def _machine(settings: RouterSettings) -> Machine | None:
    if settings.share is None:
        return None
    from aigateway_router.policy.machine import Machine, open_store  # noqa: PLC0415 -- loaded only by workers

    return Machine(settings.share, open_store(settings.share.folder))


def _shared(settings: RouterSettings) -> SharedCounters | None:
    if settings.redis_url is None:
        return None
    from aigateway_router.policy.shared_counters import SharedCounters  # noqa: PLC0415 -- loaded only with Redis

    return SharedCounters(settings.redis_url)
