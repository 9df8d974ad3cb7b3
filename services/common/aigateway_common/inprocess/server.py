"""The in-process server: methods by name, and the handlers that run."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import grpc
from grpc import aio
from typing_extensions import override

from aigateway_common.inprocess.context import Context
from aigateway_common.inprocess.rpc import Outcome, StreamRpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aigateway_common.inprocess.rpc import Rpc

CLEAN_UP: Final = 5.0
"""Seconds that `stop` waits for handlers which it cancelled."""

_log = logging.getLogger(__name__)


class _State(enum.Enum):
    READY = enum.auto()
    RUNNING = enum.auto()
    STOPPING = enum.auto()
    STOPPED = enum.auto()


class Method(NamedTuple):
    """A registered method."""

    name: str
    handler: Callable[[Any, Context], Any]
    is_coroutine: bool
    is_generator: bool


@dataclass(slots=True)
class _CallDetails:
    method: str
    invocation_metadata: Any


class InProcessServer(aio.Server):
    """Serves what is registered on it to `InProcessChannel`s of the same event loop."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._running: set[Rpc] = set()
        self._state = _State.READY
        self._changed = asyncio.Event()
        self._forget = self._handler_ended
        self.running = False
        """Whether it takes calls."""

    @override
    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        for name, handler in method_handlers.items():
            path = f"/{service_name}/{name}"
            if (method := _method(path, handler)) is not None:
                self._methods[path] = method

    @override
    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._generic.extend(generic_rpc_handlers)

    @override
    def add_insecure_port(self, address: str) -> NoReturn:
        raise aio.UsageError("an in-process server has no ports")

    @override
    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> NoReturn:
        raise aio.UsageError("an in-process server has no ports")

    @property
    def stopped(self) -> bool:
        """Whether it will never take calls again."""
        return self._state in {_State.STOPPING, _State.STOPPED}

    async def until_changed(self) -> None:
        """Wait until it starts or stops, or a handler ends while it stops."""
        await self._changed.wait()

    @override
    async def start(self) -> None:
        if self._state in {_State.STOPPING, _State.STOPPED}:
            raise aio.UsageError("Server not in ready state")
        self._to(_State.RUNNING)

    @override
    async def stop(self, grace: float | None) -> None:
        """Take no more calls, let running ones go on for `grace` seconds, cancel the rest and wait for them to end."""
        if self._state in {_State.READY, _State.STOPPED}:
            return
        self._to(_State.STOPPING)
        if grace:
            await self._until_idle(grace)
        for rpc in list(self._running):
            rpc.terminate(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls")
        if not await self._until_idle(CLEAN_UP):
            _log.error("%d handlers still run, %g s after they were cancelled", len(self._running), CLEAN_UP)
        self._to(_State.STOPPED)

    @override
    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while self._state is not _State.STOPPED:
                    await self.until_changed()
        except TimeoutError:
            return True
        return False

    def find(self, path: str, invocation: object) -> Method | None:
        """The method at `path` (`/package.Service/Method`)."""
        method = self._methods.get(path)
        if method is not None:
            return method
        for generic in self._generic:
            handler = generic.service(_CallDetails(path, invocation))
            if handler is not None:
                return _method(path, handler)
        return None

    def call(self, path: str, rpc: Rpc, request: object) -> None:
        """Begin to serve a call."""
        if rpc.outcome is not None:
            return
        if not self.running:
            rpc.answer(Outcome(grpc.StatusCode.UNAVAILABLE, "the in-process server is not running", ()))
        elif (method := self.find(path, rpc.metadata)) is None:
            rpc.answer(Outcome(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", ()))
        else:
            self._running.add(rpc)
            rpc.handler_ended = self._forget
            rpc.task = rpc.loop.create_task(self._serve(method, rpc, request))

    def cancel_calls(self, channel: object) -> None:
        """Cancel the running calls of one channel."""
        for rpc in [rpc for rpc in self._running if rpc.channel is channel]:
            rpc.terminate(grpc.StatusCode.CANCELLED, "Channel closed!", locally=True)

    async def _serve(self, method: Method, rpc: Rpc, request: object) -> None:
        rpc.started = True
        context = Context(rpc)
        try:
            if isinstance(rpc, StreamRpc):
                await _stream(method, context, request)
                context.finish()
            else:
                context.respond(await _unary(method, context, request))
        except aio.AbortError as error:
            if error is not context.aborted:
                _failed(method, context, error)
        except asyncio.CancelledError:
            rpc.answer(Outcome(grpc.StatusCode.CANCELLED, "the handler was cancelled", ()))
        except Exception as error:  # noqa: BLE001 -- whatever a handler raises is the client's answer
            _failed(method, context, error)
        finally:
            context.aborted = None  # its traceback leads back here: a cycle for the collector
            context.run_callbacks()
            self._handler_ended(rpc)

    def _handler_ended(self, rpc: Rpc) -> None:
        self._running.discard(rpc)
        if self._state is _State.STOPPING:
            self._to(_State.STOPPING)

    async def _until_idle(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._running:
                    await self.until_changed()
        except TimeoutError:
            return False
        return True

    def _to(self, state: _State) -> None:
        self._state = state
        self.running = state is _State.RUNNING
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _method(path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> Method | None:
    """The method behind grpc's handler object; None for client streaming, which is UNIMPLEMENTED in process."""
    if handler.request_streaming:
        return None
    function: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
    return Method(path, function, inspect.iscoroutinefunction(function), inspect.isasyncgenfunction(function))


async def _unary(method: Method, context: Context, request: object) -> object:
    if not method.is_coroutine:
        return _plain(method, context, request)
    return await method.handler(request, context)


async def _stream(method: Method, context: Context, request: object) -> None:
    if method.is_coroutine:
        await method.handler(request, context)
        return
    if not method.is_generator:
        _plain(method, context, request)
    messages = method.handler(request, context)
    try:
        async for message in messages:
            await context.write(message)
    finally:
        await messages.aclose()


def _plain(method: Method, context: Context, request: object) -> NoReturn:
    """Run a plain function: the generated default, which says UNIMPLEMENTED, is the only one that may stand here."""
    method.handler(request, context)
    raise TypeError(f"the handler of `{method.name}` is neither a coroutine function nor an async generator")


def _failed(method: Method, context: Context, error: Exception) -> None:
    if not isinstance(error, NotImplementedError):
        _log.error("unexpected %s in the handler of %s", type(error).__name__, method.name, exc_info=error)
    context.fail(error)
