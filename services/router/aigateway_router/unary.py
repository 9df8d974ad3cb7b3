"""One attempt at a whole answer: chat, embeddings, or the count of a prompt's tokens.

What goes into another message goes by `CopyFrom`: a constructor that is given a message writes it out and parses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    provider_service_pb2,
)
from aigateway_common.errors import GatewayError

from aigateway_router import estimates
from aigateway_router.attempt_guard import LEFT, Errand, Guard, metadata

if TYPE_CHECKING:
    from aigateway.v1 import tokens_pb2
    from aigateway.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub
    from grpc import aio

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


async def chat(
    guard: Guard, stub: ProviderServiceAsyncStub, errand: Errand, request: chat_pb2.ChatCall
) -> gateway_service_pb2.ChatResponse:
    """The whole answer. Raises GatewayError."""
    call, target = errand.call, errand.target
    sent = provider_service_pb2.ProviderServiceChatRequest()
    sent.call.CopyFrom(request)
    sent.call.model = target.model
    timeout = guard.timeout(call)
    attempt, span = guard.begin(errand)

    def guess(error: GatewayError) -> tokens_pb2.TokenUsage | None:
        return _prompt_only(estimates.chat_prompt(request)) if error.reason.name in LEFT else None

    with guard.watching(call, attempt, span, guess):
        answer = await _answer(stub.Chat(sent, timeout=timeout, metadata=metadata(call, span)))
        if not answer.HasField("completion"):
            raise GatewayError("UPSTREAM_INVALID", "the provider's service answered without a completion")
        completion = answer.completion
        attempt.answered_model = completion.model
        attempt.usage = completion.usage if completion.HasField("usage") else None
        if completion.choices:
            attempt.finish_reason = completion.choices[0].native_finish_reason
        response = gateway_service_pb2.ChatResponse()
        response.completion.CopyFrom(completion)
        response.route.CopyFrom(call.route(errand))
        response.timing.CopyFrom(call.timing(answer.timing))
        guard.emitter.succeeded(attempt)
    span.end()
    return response


async def embed(
    guard: Guard, stub: ProviderServiceAsyncStub, errand: Errand, request: embedding_pb2.EmbedCall
) -> gateway_service_pb2.EmbedResponse:
    """The vectors. Raises GatewayError."""
    call, target = errand.call, errand.target
    sent = provider_service_pb2.ProviderServiceEmbedRequest(call=request)
    sent.call.model = target.model
    timeout = guard.timeout(call)
    attempt, span = guard.begin(errand)

    def guess(error: GatewayError) -> tokens_pb2.TokenUsage | None:
        return _prompt_only(estimates.embed_prompt(request)) if error.reason.name in LEFT else None

    with guard.watching(call, attempt, span, guess):
        answer = await _answer(stub.Embed(sent, timeout=timeout, metadata=metadata(call, span)))
        if not answer.HasField("embeddings"):
            raise GatewayError("UPSTREAM_INVALID", "the provider's service answered without embeddings")
        vectors = answer.embeddings
        attempt.answered_model = vectors.model
        attempt.usage = vectors.usage if vectors.HasField("usage") else None
        response = gateway_service_pb2.EmbedResponse(
            embeddings=vectors, route=call.route(errand), timing=call.timing(answer.timing)
        )
        guard.emitter.succeeded(attempt)
    span.end()
    return response


async def count_tokens(
    guard: Guard, stub: ProviderServiceAsyncStub, errand: Errand, request: chat_pb2.ChatCall
) -> gateway_service_pb2.CountTokensResponse:
    """The tokens of the prompt. Raises GatewayError. The ledger is told nothing: providers count for free."""
    call = errand.call
    sent = provider_service_pb2.ProviderServiceCountTokensRequest(call=request)
    sent.call.model = errand.target.model
    timeout = guard.timeout(call)
    attempt, span = guard.begin(errand)
    attempt.recorded = True
    with guard.watching(call, attempt, span, lambda _: None):
        answer = await _answer(stub.CountTokens(sent, timeout=timeout, metadata=metadata(call, span)))
        if not answer.HasField("count"):
            raise GatewayError("UPSTREAM_INVALID", "the provider's service answered without a count")
    span.end()
    return gateway_service_pb2.CountTokensResponse(
        count=answer.count, route=call.route(errand), timing=call.timing(answer.timing)
    )


async def _answer(rpc: aio.UnaryUnaryCall[_Request, _Answer]) -> _Answer:
    """The answer of a unary call, which is cancelled at once when nobody waits for it any more."""
    try:
        return await rpc
    finally:
        rpc.cancel()


def _prompt_only(prompt: int) -> tokens_pb2.TokenUsage:
    return estimates.estimated(None, prompt=prompt, output_characters=0, reasoning_characters=0)
