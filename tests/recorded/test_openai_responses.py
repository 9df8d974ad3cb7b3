"""Every recorded exchange of OpenAI's Responses API, through the adapter, against a replay of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from aigateway_common.errors import GatewayError
from aigateway_edge.openai import from_proto as chat_from_proto
from aigateway_edge.openai import to_proto as chat_to_proto
from aigateway_edge.responses import from_proto, to_proto
from aigateway_edge.responses.events import Events
from aigateway_edge.responses.state import Ids
from aigateway_providers.adapter import CallContext
from aigateway_providers.openai_compat.adapter import create
from aigateway_providers.openai_compat.profiles import PROFILES
from aigateway_providers.openai_responses.request import to_body
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Expected, load, params
from support.recorded import assembled, failed, openai_responses, seen
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2
    from support.exchanges import Exchange

EXCHANGES = load("openai", "responses")
STREAMS = [one for one in EXCHANGES if one.streamed]
BUILT_IN = [one for one in EXCHANGES if "builtin_tools" in one.features]
"""These ask for tools that run at OpenAI, which the edge refuses until there is state; adapters carry them."""
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


@pytest.mark.parametrize("exchange", params(*(one for one in EXCHANGES if one not in BUILT_IN)))
async def test_the_edge_asks_what_was_recorded(exchange: Exchange) -> None:
    call = to_proto.response_call(json.dumps(exchange.request).encode()).call
    body, notes = to_body(call, PROFILES["openai"], provider="openai", stream=exchange.streamed)
    assert (openai_responses.differences(json.loads(body), exchange.request), notes) == ([], [])


@pytest.mark.parametrize("exchange", params(*BUILT_IN))
def test_the_edge_refuses_built_in_tools(exchange: Exchange) -> None:
    with pytest.raises(GatewayError) as caught:
        to_proto.response_call(json.dumps(exchange.request).encode())
    assert caught.value.reason.name == "UNSUPPORTED"


@pytest.mark.parametrize("exchange", params(*WHOLE))
async def test_the_edge_shows_what_was_recorded(exchange: Exchange) -> None:
    _, completion, _ = await replay(exchange)
    assert completion is not None
    body, notes = from_proto.response(completion, {}, Ids())
    assert (json.loads(body), notes) == (exchange.json(), [])


@pytest.mark.parametrize("exchange", params(*STREAMS))
async def test_the_edge_shows_the_events_that_were_recorded(exchange: Exchange) -> None:
    _, _, events = await replay(exchange)
    out = Events({})
    shown = out.write(events) + out.end()
    lines = [json.loads(line[5:]) for line in shown.decode().splitlines() if line.startswith("data:")]
    assert lines == openai_responses.events(exchange)


@pytest.mark.parametrize("exchange", params(*WHOLE))
async def test_a_chat_client_that_echoes_its_history_sends_reasoning_and_calls_back(exchange: Exchange) -> None:
    _, completion, _ = await replay(exchange)
    assert completion is not None
    shown, _ = chat_from_proto.chat_completion(completion, request_id="r")
    message = json.loads(shown)["choices"][0]["message"]
    again = {"model": "gpt-5-pro", "messages": [{"role": "user", "content": "Hi"}, message]}
    asked = chat_to_proto.chat_call(json.dumps(again).encode()).call
    sent, notes = to_body(asked, PROFILES["openai"], provider="openai", stream=False)
    assert notes == []
    items, told = exchange.json()["output"], json.loads(sent)["input"]
    assert [one for one in told if one.get("type") == "reasoning"] == [
        one for one in items if one["type"] == "reasoning"
    ]
    assert [(one["call_id"], one["name"], one["arguments"]) for one in told if one.get("type") == "function_call"] == [
        (one["call_id"], one["name"], one["arguments"]) for one in items if one["type"] == "function_call"
    ]
