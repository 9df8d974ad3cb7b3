"""GatewayService: authenticates, checks, routes and dispatches; every way to fail leaves as a status with details."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aigateway.v1 import chat_pb2, embedding_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from aigateway_common import attributes, logs, metrics
from aigateway_common.errors import GatewayError, abort, invalid
from aigateway_common.telemetry import SpanKind, Telemetry
from typing_extensions import override

from aigateway_router.authn import Authenticator
from aigateway_router.calls import Call
from aigateway_router.dispatch import Dispatcher
from aigateway_router.models import ModelCatalog
from aigateway_router.outbox import Outbox
from aigateway_router.routes import Routes
from aigateway_router.usage_emitter import UsageEmitter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from grpc import aio

    from aigateway_router.routes import Target
    from aigateway_router.settings import RouterSettings

    _Context = aio.ServicerContext[Any, Any]

_T = TypeVar("_T")

SERVICE_NAME: Final = "aigateway.v1.GatewayService"
LIST_MODELS: Final = "list_models"
MAX_MODEL_NAME: Final = 512
"""Characters; every call's names are kept in the ledger."""
_OFF: Final = Telemetry.off()

_log = logs.get("aigateway.router")


class RouterComponent:
    """The router as a service.

    Args:
        settings: See there.
        providers: A channel to the adapter of each enabled provider, by the provider's name.
        usage: A channel to the ledger; without it nothing is recorded.
        telemetry: Where spans go.

    Raises ValueError that names every alias or key that makes no sense.
    """

    service_names: tuple[str, ...] = (SERVICE_NAME,)

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
        self._outbox = None if usage is None else Outbox(settings, usage)
        self._catalog = ModelCatalog(providers, routes, settings)
        self._dispatcher = Dispatcher(providers, UsageEmitter(self._outbox), telemetry, settings)
        self._servicer = _GatewayServicer(
            Authenticator(settings.api_keys),
            routes,
            self._dispatcher,
            self._catalog,
            telemetry,
        )

    def reload(self, settings: RouterSettings) -> None:
        """Go by the keys, aliases and groq models of `settings` in calls that begin from now on.

        Raises ValueError when the aliases are wrong; then nothing has changed.
        """
        routes = self._routes(settings)
        self._catalog.reroute(routes)
        self._servicer.reload(Authenticator(settings.api_keys), routes)

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
        """Add GatewayService to `server`."""
        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Open the outbox. Raises OutboxLockedError or OSError when it cannot be used."""
        if self._outbox is not None:
            await self._outbox.start()
        self._dispatcher.start()

    async def stop(self, grace: float) -> None:
        """Deliver the usage events that are left, for at most `grace` seconds; the rest stays on disk."""
        await self._catalog.stop()
        await self._dispatcher.stop()
        if self._outbox is not None:
            await self._outbox.stop(grace)


class _GatewayServicer(gateway_service_pb2_grpc.GatewayServiceServicer):
    def __init__(
        self,
        authenticator: Authenticator,
        routes: Routes,
        dispatcher: Dispatcher,
        catalog: ModelCatalog,
        telemetry: Telemetry,
    ) -> None:
        self._authenticator = authenticator
        self._routes = routes
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._telemetry = telemetry

    def reload(self, authenticator: Authenticator, routes: Routes) -> None:
        self._authenticator, self._routes = authenticator, routes

    @override
    async def Chat(
        self, request: gateway_service_pb2.ChatRequest, context: _Context
    ) -> gateway_service_pb2.ChatResponse:
        async def answer(call: Call) -> gateway_service_pb2.ChatResponse:
            _check_chat(request.call)
            steps = await self._steps(call, request.call.model)
            response = await self._dispatcher.chat(call, request.call, steps)
            metrics.overhead("router", response.timing.router_us / 1e6)
            return response

        return await self._serve(attributes.CHAT, request.call.model, context, answer)

    @override
    async def StreamChat(  # type: ignore[override] # the stub types know generators only, not `context.write`
        self, request: gateway_service_pb2.StreamChatRequest, context: _Context
    ) -> None:
        async def answer(call: Call) -> None:
            _check_chat(request.call)
            steps = await self._steps(call, request.call.model)
            call.span.set(attributes.REQUEST_STREAM, True)
            metrics.stream_opened("router")
            try:
                await self._dispatcher.stream(call, request.call, steps, context.write)
            finally:
                metrics.stream_closed("router")

        await self._serve(attributes.CHAT, request.call.model, context, answer)

    @override
    async def Embed(
        self, request: gateway_service_pb2.EmbedRequest, context: _Context
    ) -> gateway_service_pb2.EmbedResponse:
        async def answer(call: Call) -> gateway_service_pb2.EmbedResponse:
            _check_embed(request.call)
            steps = await self._steps(call, request.call.model)
            response = await self._dispatcher.embed(call, request.call, steps)
            metrics.overhead("router", response.timing.router_us / 1e6)
            return response

        return await self._serve(attributes.EMBEDDINGS, request.call.model, context, answer)

    @override
    async def CountTokens(
        self, request: gateway_service_pb2.CountTokensRequest, context: _Context
    ) -> gateway_service_pb2.CountTokensResponse:
        async def answer(call: Call) -> gateway_service_pb2.CountTokensResponse:
            _check_chat(request.call)
            steps = await self._steps(call, request.call.model)
            return await self._dispatcher.count_tokens(call, request.call, steps)

        return await self._serve(attributes.COUNT_TOKENS, request.call.model, context, answer)

    @override
    async def ListModels(
        self, request: gateway_service_pb2.ListModelsRequest, context: _Context
    ) -> gateway_service_pb2.ListModelsResponse:
        async def answer(_call: Call) -> gateway_service_pb2.ListModelsResponse:
            return await self._catalog.list_models(request.provider)

        return await self._serve(LIST_MODELS, "", context, answer)

    async def _steps(self, call: Call, model: str) -> Sequence[Target]:
        """Where `model` leads, and what stands in. Raises GatewayError MODEL_NOT_FOUND or PROVIDER_DISABLED."""
        target = self._routes.resolve(model)
        if target is None:
            raise self._routes.not_found(model, await self._catalog.ids())
        call.provider = target.provider
        call.span.set(attributes.PROVIDER, attributes.provider_name(target.provider))
        call.span.set(attributes.REQUEST_MODEL, target.model)
        return self._routes.steps(model, target)

    async def _serve(
        self, operation: str, model: str, context: _Context, answer: Callable[[Call], Awaitable[_T]]
    ) -> _T:
        """Around every rpc: who calls, its span, and what becomes of failures."""
        call = self._begin(operation, model, context)
        try:
            call.key_id = self._authenticator.identify(call.metadata)
            call.span.set(attributes.KEY_ID, call.key_id or None)
            result = await answer(call)
        except GatewayError as error:
            _end(call, operation, error)
            error.details.setdefault("request_id", call.request_id)
            await abort(context, error)
        except asyncio.CancelledError as cancelled:
            _end(call, operation, cancelled)
            raise
        except Exception:  # noqa: BLE001 -- the caller learns that it failed, the log learns why
            _log.exception("router failed", operation=operation)
            internal = GatewayError(
                "INTERNAL",
                "internal error; the logs have it under the request id",
                details={"request_id": call.request_id},
            )
            _end(call, operation, internal)
            await abort(context, internal)
        _end(call, operation, None)
        return result

    def _begin(self, operation: str, model: str, context: _Context) -> Call:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        span = self._telemetry.span(
            f"{operation} {model}" if model else operation, kind=SpanKind.SERVER, parent=tuple(metadata.items())
        )
        call = Call(context, metadata, span)
        logs.bind(request_id=call.request_id, trace_id=span.trace_id)
        span.set(attributes.OPERATION, operation)
        span.set(attributes.REQUEST_ID, call.request_id)
        span.set(attributes.REQUESTED_MODEL, model or None)
        return call


def _end(call: Call, operation: str, error: BaseException | None) -> None:
    call.span.end(error)
    status = metrics.OK
    if error is not None:
        status = error.reason.name if isinstance(error, GatewayError) else "CANCELLED"
    metrics.call_finished("router", operation, call.provider, status, call.elapsed_ns() / 1e9)


def _check_chat(call: chat_pb2.ChatCall) -> None:
    """Check what every chat call must have; the rest is for the adapter, which knows what its provider takes."""
    _check_model(call.model)
    if not call.messages:
        raise invalid("call.messages", "`call.messages` must hold at least one message")
    for index, message in enumerate(call.messages):
        if not message.role:
            raise invalid(f"call.messages[{index}].role", f"`call.messages[{index}].role` is required")


def _check_embed(call: embedding_pb2.EmbedCall) -> None:
    _check_model(call.model)
    if not call.inputs:
        raise invalid("call.inputs", "`call.inputs` must hold at least one text")
    for index, item in enumerate(call.inputs):
        if item.WhichOneof("kind") is None:
            raise invalid(f"call.inputs[{index}]", f"`call.inputs[{index}]` must hold `text` or `tokens`")


def _check_model(model: str) -> None:
    if not model:
        raise invalid("call.model", "`call.model` is required; write `provider/model`, an alias or a model's name")
    if len(model) > MAX_MODEL_NAME:
        raise invalid("call.model", f"`call.model` has more than {MAX_MODEL_NAME} characters")
