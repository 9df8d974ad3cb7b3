"""The in-process channel: what the generated stubs take for a connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

import grpc
from grpc import aio
from typing_extensions import override

from aigateway_common.inprocess import metadata
from aigateway_common.inprocess.call import StreamCall, UnaryCall
from aigateway_common.inprocess.rpc import Rpc, StreamRpc

if TYPE_CHECKING:
    from types import TracebackType

    from aigateway_common.inprocess.server import InProcessServer


class InProcessChannel(aio.Channel):
    """Carries calls to an InProcessServer in the same process and event loop."""

    def __init__(self, server: InProcessServer) -> None:
        self.server = server
        self.closed = False

    @override
    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> _UnaryMethod:
        return _UnaryMethod(self, method)

    @override
    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> _StreamMethod:
        return _StreamMethod(self, method)

    @override
    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return _NoClientStreaming(method)

    @override
    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return _NoClientStreaming(method)

    @override
    async def close(self, grace: float | None = None) -> None:
        """Cancel this channel's calls, after `grace` seconds if given, and take no more."""
        if self.closed:
            return
        self.closed = True
        if grace:
            await asyncio.sleep(grace)
        self.server.cancel_calls(self)

    @override
    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if self.closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if self.server.running:
            return grpc.ChannelConnectivity.READY
        if self.server.stopped:
            return grpc.ChannelConnectivity.TRANSIENT_FAILURE
        return grpc.ChannelConnectivity.IDLE

    @override
    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:
            await self.server.until_changed()

    @override
    async def channel_ready(self) -> None:
        while (state := self.get_state()) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.SHUTDOWN:
                raise aio.UsageError("Channel is closed.")
            await self.wait_for_state_change(state)

    @override
    async def __aenter__(self) -> Self:
        return self

    @override
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


class _UnaryMethod(aio.UnaryUnaryMultiCallable[Any, Any]):
    def __init__(self, channel: InProcessChannel, path: str) -> None:
        self._channel = channel
        self._path = path

    @override
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryCall:
        rpc = _begin(Rpc, self._channel, timeout, metadata)
        self._channel.server.call(self._path, rpc, request)
        return UnaryCall(rpc)


class _StreamMethod(aio.UnaryStreamMultiCallable[Any, Any]):
    def __init__(self, channel: InProcessChannel, path: str) -> None:
        self._channel = channel
        self._path = path

    @override
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamCall:
        rpc = _begin(StreamRpc, self._channel, timeout, metadata)
        self._channel.server.call(self._path, rpc, request)
        return StreamCall(rpc)


class _NoClientStreaming:
    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise aio.AioRpcError(
            grpc.StatusCode.UNIMPLEMENTED,
            aio.Metadata(),
            aio.Metadata(),
            details=f"`{self._path}` streams requests, which the in-process channel does not carry",
        )


_R = TypeVar("_R", bound=Rpc)


def _begin(kind: type[_R], channel: InProcessChannel, timeout: float | None, pairs: Any) -> _R:
    if channel.closed:
        raise aio.UsageError("Channel is closed.")
    return kind(channel, asyncio.get_running_loop(), metadata.pairs(pairs), timeout)
