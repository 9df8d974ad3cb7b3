"""Every recorded exchange of OpenAI's Responses API, through the adapter, against a replay of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Expected, load, params
from support.recorded import assembled, failed, openai_responses, seen
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2
    from support.exchanges import Exchange

EXCHANGES = load("openai", "responses")
STREAMS = [one for one in EXCHANGES if one.streamed]
WHOLE = [one for one in EXCHANGES if not one.streamed and one.status < 400]

Replayed = tuple[Expected, "chat_pb2.ChatCompletion | None", "list[chat_pb2.ChatEvent]"]


async def replay(exchange: Exchange, piece_size: int = 0) -> Replayed:
    """What a caller gets for the recorded request when the provider answers as recorded; what is sent is checked."""
    completion: chat_pb2.ChatCompletion | None = None
    events: list[chat_pb2.ChatEvent] = []
    with Upstream(Answer.recorded(exchange, piece_size)) as stand_in:
        provider = create(ProviderSettings("openai", "openai", stand_in.url + "/v1", "key"))
        call = openai_responses.to_call(exchange)
        try:
            if exchange.streamed:
                events = [event async for batch in provider.stream_chat(call, CallContext()) for event in batch]
                completion = assembled(events)
            else:
                completion = await provider.chat(call, CallContext())
            got = seen(completion)
        except GatewayError as error:
            got = failed(error)
        finally:
            await provider.aclose()
    [sent] = stand_in.requests
    assert (sent.method, sent.path) == ("POST", exchange.path)
    assert sent.headers["authorization"] == "Bearer key"
    assert openai_responses.differences(sent.json(), exchange.request) == []
    return got, completion, events


@pytest.mark.parametrize("exchange", params(*EXCHANGES))
async def test_a_recorded_response_is_carried_both_ways(exchange: Exchange) -> None:
    got, _, _ = await replay(exchange)
    assert got == openai_responses.expected(exchange)


@pytest.mark.parametrize("exchange", params(*WHOLE))
async def test_nothing_of_a_recorded_response_is_lost(exchange: Exchange) -> None:
    _, completion, _ = await replay(exchange)
    assert completion is not None
    wanted = set(openai_responses.leaves(exchange.json()))
    told = set(openai_responses.leaves(openai_responses.told(completion)))
    assert (wanted - told, told - wanted) == (set(), set())


@pytest.mark.parametrize("exchange", params(*STREAMS))
@pytest.mark.parametrize("piece_size", [0, 7])
async def test_a_recorded_stream_is_told_whole_and_in_order(exchange: Exchange, piece_size: int) -> None:
    got, _, events = await replay(exchange, piece_size)
    assert got == openai_responses.expected(exchange)
    assert openai_responses.shown(events) == openai_responses.events(exchange)
