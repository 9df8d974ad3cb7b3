"""Cases about failures: each has its code, its reason and its retry hint, and calls end when they are told to."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import grpc
from aigateway.v1 import chat_pb2, provider_service_pb2
from grpc import aio

from aigateway_providers.conformance import asks
from aigateway_providers.conformance.events import add_up
from aigateway_providers.conformance.target import RETRY_SECONDS, read_refusal
from aigateway_providers.conformance.verdict import require

if TYPE_CHECKING:
    from aigateway_providers.conformance.target import Refusal, Scenario, Target

PROMPT: Final = 2.0
"""Seconds within which a call that is cancelled or past its deadline has to be over."""
_DEADLINE: Final = 0.3
_Code = grpc.StatusCode


async def empty_messages(target: Target) -> str:
    """A call without messages is INVALID_ARGUMENT, whole and streamed."""
    call = chat_pb2.ChatCall(model=target.model())
    return (await _both(target, call, [_Code.INVALID_ARGUMENT], "no messages")).message


async def invalid_schema(target: Target) -> str:
    """A tool whose parameters are no JSON is INVALID_ARGUMENT that names the field."""
    call = asks.with_tools(target.model("tools"))
    call.tools[0].function.parameters_json = b'{"type": '
    refusal = await _both(target, call, [_Code.INVALID_ARGUMENT], "a schema that is no JSON")
    require("param" in refusal.metadata, "`param` of `ErrorInfo` does not name the field")
    return refusal.metadata["param"]


async def invalid_arguments(target: Target) -> str:
    """Tool arguments in the history that are no JSON are refused as the caller's, or carried as they are."""
    target.play("text")
    call = asks.with_broken_arguments(target.model("tools"))
    try:
        await target.chat(call)
    except aio.AioRpcError as error:
        refusal = read_refusal(error)
        require(refusal.code is _Code.INVALID_ARGUMENT, f"{refusal.code.name} instead of INVALID_ARGUMENT")
        return f"refused: {refusal.message}"
    return "carried as they are"


async def unknown_model(target: Target) -> str:
    """A model that the provider does not have is NOT_FOUND, whole and streamed."""
    target.play("unknown_model")
    refusal = await _both(target, asks.chat(asks.UNKNOWN_MODEL), [_Code.NOT_FOUND], "an unknown model")
    require(refusal.reason == "MODEL_NOT_FOUND", f"the reason is {refusal.reason}")
    return refusal.message


async def strict_policy(target: Target) -> str:
    """Under the strict policy a call that cannot be carried unchanged is refused, before anything is sent."""
    target.play("text")
    call = asks.with_extras(asks.chat(target.model()), asks.foreign(target.capabilities.dialect), ("call",))
    call.translation_policy = chat_pb2.TRANSLATION_POLICY_STRICT
    refusal = await _both(target, call, [_Code.INVALID_ARGUMENT], "another dialect's field, strictly")
    require(refusal.reason == "TRANSLATION_REFUSED", f"the reason is {refusal.reason}")
    return refusal.message


async def key_refused(target: Target) -> str:
    """A provider that refuses the adapter's key is FAILED_PRECONDITION: the caller's own key is fine."""
    refusal = await _upstream(target, "key_refused", [_Code.FAILED_PRECONDITION])
    require(refusal.reason == "UPSTREAM_AUTH", f"the reason is {refusal.reason}")
    return ""


async def rate_limited(target: Target) -> str:
    """A provider's rate limit is RESOURCE_EXHAUSTED with `RetryInfo` as the provider said."""
    refusal = await _upstream(target, "rate_limited", [_Code.RESOURCE_EXHAUSTED])
    require(refusal.retry_after is not None, "there is no `RetryInfo`")
    wait = refusal.retry_after or 0
    require(abs(wait - RETRY_SECONDS) < 1, f"`RetryInfo` says {wait} s; the provider said {RETRY_SECONDS}")
    return ""


async def server_error(target: Target) -> str:
    """A provider that fails with HTTP 500 is INTERNAL or UNAVAILABLE, by a reason that may be tried again."""
    refusal = await _upstream(target, "server_error", [_Code.INTERNAL, _Code.UNAVAILABLE])
    require(refusal.reason.startswith("UPSTREAM_"), f"the reason is {refusal.reason}")
    return ""


async def truncated(target: Target) -> str:
    """A stream that ends before its end is an error, after what had come; the same for a whole answer."""
    target.play("truncated")
    call = asks.chat(target.model())
    codes = [_Code.INTERNAL, _Code.UNAVAILABLE]
    await target.refused(target.chat(call), codes, "an answer cut short")
    stream = target.stub.StreamChat(_request(call), timeout=target.timeout)
    messages: list[provider_service_pb2.ProviderServiceStreamChatResponse] = []

    async def drain() -> None:
        async for message in stream:
            messages.append(message)  # noqa: PERF401 - kept when the stream fails, too

    refusal = await target.refused(drain(), codes, "a stream cut short")
    streamed = add_up(messages, whole=False)
    require(streamed.text, "the text that had come was lost")
    require(not streamed.finishes, "a stream cut short has a `finish`")
    return refusal.message


async def cancelled(target: Target) -> str:
    """A stream that is cancelled ends at once, brings no more, and the adapter serves the next call."""
    target.play("unfinished")
    stream = target.stub.StreamChat(_request(_long(target)), timeout=target.timeout)
    require(await stream.read() is not aio.EOF, "the stream ended without a single message")
    started = time.monotonic()
    stream.cancel()
    try:
        async with asyncio.timeout(PROMPT):
            more = await stream.read()
            require(more is aio.EOF, "a message came after the call was cancelled")
    except asyncio.CancelledError:
        pass
    await _over(target, started)
    return await _connection_closed(target)


async def cancelled_early(target: Target) -> str:
    """A call that is cancelled before the provider says anything closes the provider's connection."""
    for stream in (False, True):
        target.play("silent")
        call = target.stub.StreamChat(_request(_long(target))) if stream else target.stub.Chat(_whole(_long(target)))
        await asyncio.sleep(_DEADLINE)
        call.cancel()
        await _connection_closed(target)
    return ""


async def deadline(target: Target) -> str:
    """A call past its deadline ends there, and the adapter serves the next one."""
    target.play("silent")
    started = time.monotonic()
    try:
        await target.stub.Chat(_whole(_long(target)), timeout=_DEADLINE)
    except aio.AioRpcError as error:
        require(error.code() is _Code.DEADLINE_EXCEEDED, f"{error.code().name} instead of DEADLINE_EXCEEDED")
    else:
        require(target.live, "a provider that never answers was answered for")
        return f"answered within {_DEADLINE} s"
    await _over(target, started + _DEADLINE)
    return await _connection_closed(target)


async def _upstream(target: Target, scenario: Scenario, codes: list[grpc.StatusCode]) -> Refusal:
    target.play(scenario)
    return await _both(target, asks.chat(target.model()), codes, scenario)


async def _both(target: Target, call: chat_pb2.ChatCall, codes: list[grpc.StatusCode], what: str) -> Refusal:
    """How the call fails whole; it must fail streamed by the same reason."""
    whole = await target.refused(target.chat(call), codes, what)
    streamed = await target.refused(target.stream(call), codes, f"{what}, streamed")
    require(whole.reason == streamed.reason, f"{what}: {whole.reason} whole, {streamed.reason} streamed")
    return whole


async def _over(target: Target, since: float) -> None:
    """The call is over by now, and the adapter answers."""
    took = time.monotonic() - since
    require(took < PROMPT, f"the call went on for {took:.1f} s")
    await target.stub.GetCapabilities(provider_service_pb2.GetCapabilitiesRequest(), timeout=PROMPT)


async def _connection_closed(target: Target) -> str:
    if target.script is None:
        return "whether the provider's connection was closed cannot be seen"
    require(await target.script.hung_up(), "the provider's connection stayed open")
    return ""


def _long(target: Target) -> chat_pb2.ChatCall:
    call = asks.chat(target.model(), question=asks.LONG)
    call.options.Clear()
    return call


def _request(call: chat_pb2.ChatCall) -> provider_service_pb2.ProviderServiceStreamChatRequest:
    return provider_service_pb2.ProviderServiceStreamChatRequest(call=call)


def _whole(call: chat_pb2.ChatCall) -> provider_service_pb2.ProviderServiceChatRequest:
    return provider_service_pb2.ProviderServiceChatRequest(call=call)
