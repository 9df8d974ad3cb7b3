"""Every recorded exchange of Gemini, through the edge's reader and the adapter, against a replay of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai import from_proto, to_proto
from aigateway_providers.adapter import CallContext
from aigateway_providers.gemini.adapter import create
from aigateway_providers.gemini.request import chat_body
from aigateway_providers.report import Report
from aigateway_providers.settings import ProviderSettings
from support.exchanges import Expected, load, params
from support.recorded import assembled, failed, gemini, seen
from support.replay import Answer, Upstream

if TYPE_CHECKING:
    from aigateway_providers.adapter import Adapter
    from support.exchanges import Exchange

EXCHANGES = load("gemini")
CHATS = [one for one in EXCHANGES if one.operation in {"generateContent", "streamGenerateContent"}]
STREAMS = [one for one in CHATS if one.operation == "streamGenerateContent"]
ANSWERED = [one for one in CHATS if one.status == 200 and any(gemini.parts(r) for r in gemini.answers(one))]
CALLED = [one for one in ANSWERED if any("functionCall" in p for r in gemini.answers(one) for p in gemini.parts(r))]
EMBEDDINGS = [one for one in EXCHANGES if one.operation == "batchEmbedContents"]
OTHERS = [one for one in EXCHANGES if one not in CHATS and one not in EMBEDDINGS]


async def replay(
    exchange: Exchange, piece_size: int = 0
) -> tuple[Expected, chat_pb2.ChatCompletion | None, list[chat_pb2.ChatEvent]]:
    """What a caller gets when the provider answers as recorded; what was sent is compared on the way."""
    body = json.dumps(gemini.to_openai(exchange)).encode()
    events: list[chat_pb2.ChatEvent] = []
    completion = None
    with Upstream(Answer.recorded(exchange, piece_size)) as stand_in:
        provider = create(ProviderSettings("gemini", "gemini", stand_in.url, "key"))
        try:
            if exchange.operation == "batchEmbedContents":
                await provider.embed(to_proto.embed_call(body).call, CallContext())
                got = Expected()
            else:
                completion = await ask(provider, to_proto.chat_call(body), events)
                got = seen(completion)
        except GatewayError as error:
            got = failed(error)
        finally:
            await provider.aclose()
    (sent,) = stand_in.requests
    assert (sent.method, sent.path) == ("POST", exchange.path.partition("?")[0])
    assert sent.query == ({"alt": ["sse"]} if exchange in STREAMS else {})
    assert sent.headers["x-goog-api-key"] == "key"
    assert gemini.differences(sent.json(), exchange.request) == []
    return got, completion, events


async def ask(
    provider: Adapter, parsed: to_proto.ParsedChat, events: list[chat_pb2.ChatEvent]
) -> chat_pb2.ChatCompletion:
    if not parsed.stream:
        return await provider.chat(parsed.call, CallContext())
    async for batch in provider.stream_chat(parsed.call, CallContext()):
        assert batch
        events += batch
    return assembled(events)


def turn(call: chat_pb2.ChatCall) -> list[dict[str, Any]]:
    """The parts of the one turn in `call` as they are sent; ids of calls are left out, since some were made here."""
    (content,) = json.loads(chat_body(call, Report()))["contents"]
    assert content["role"] == "model"
    for part in content["parts"]:
        part.get("functionCall", {}).pop("id", None)
    return list(content["parts"])


def merged(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Recorded parts with the unsigned pieces of one text joined, and without the ids of calls."""
    found: list[dict[str, Any]] = []
    for part in parts:
        last = found[-1] if found else {}
        plain = "text" in part and "thoughtSignature" not in part
        if plain and last.keys() == part.keys() and last.get("thought") == part.get("thought"):
            last["text"] += part["text"]
        else:
            found.append(json.loads(json.dumps(part)))
    for part in found:
        part.get("functionCall", {}).pop("id", None)
    return found


def like(got: Expected, wanted: Expected) -> Expected:
    """`got` without the ids that were made here, since Gemini gave none."""
    pairs = zip(got.tool_calls, wanted.tool_calls, strict=False)
    assert all(call.id for call in got.tool_calls)
    return replace(got, tool_calls=tuple(replace(call, id=call.id if other.id else None) for call, other in pairs))


def signatures(completion: chat_pb2.ChatCompletion) -> list[tuple[str, str]]:
    """The signatures of a typed answer, each with the kind of part it came with; those of native parts lie within."""
    found = []
    for part in completion.choices[0].message.parts:
        if part.HasField("native"):
            inner = json.loads(part.native.json)
            found += [("native", inner["thoughtSignature"])] if "thoughtSignature" in inner else []
        elif part.HasField("provider_state"):
            assert part.provider_state.provider == "gemini"
            kind = "functionCall" if part.HasField("tool_call") else "text"
            found.append((kind, part.provider_state.state.decode()))
    return found


@pytest.mark.parametrize("exchange", params(*CHATS))
async def test_a_recorded_chat_is_carried_both_ways(exchange: Exchange) -> None:
    got, completion, events = await replay(exchange)
    wanted = gemini.expected(exchange)
    assert like(got, wanted) == wanted
    if completion is None:
        return
    assert completion.dialect == message_pb2.DIALECT_GEMINI
    assert list(completion.translation) == []
    assert signatures(completion) == gemini.states(exchange)
    natives = [part.native for part in completion.choices[0].message.parts if part.HasField("native")]
    assert [json.loads(native.json) for native in natives] == gemini.natives(exchange)
    extras = [completion.choices[0].extra_json, *(event.choice_extra_json for event in events)]
    assert {k: v for extra in extras if extra for k, v in json.loads(extra).items()} == gemini.extras(exchange)


@pytest.mark.parametrize("exchange", params(*ANSWERED))
async def test_a_recorded_turn_of_the_model_goes_back_as_it_came(exchange: Exchange) -> None:
    _, completion, _ = await replay(exchange)
    assert completion is not None
    call = chat_pb2.ChatCall(model=completion.model, messages=[completion.choices[0].message])
    recorded = [part for record in gemini.answers(exchange) for part in gemini.parts(record)]
    assert turn(call) == merged([part for part in recorded if part != {"text": ""}])


@pytest.mark.parametrize("exchange", params(*CALLED))
async def test_recorded_calls_keep_their_signatures_through_the_openai_dialect(exchange: Exchange) -> None:
    _, completion, _ = await replay(exchange)
    assert completion is not None
    view, _ = from_proto.chat_completion(completion, request_id="r")
    message = json.loads(view)["choices"][0]["message"]
    body = {"model": completion.model, "messages": [message]}
    recorded = [part for record in gemini.answers(exchange) for part in gemini.parts(record)]
    found = turn(to_proto.chat_call(json.dumps(body).encode()).call)
    assert [part for part in found if "functionCall" in part] == merged(
        [part for part in recorded if "functionCall" in part]
    )


@pytest.mark.parametrize("exchange", params(*STREAMS))
async def test_a_recorded_stream_in_small_pieces_is_the_same(exchange: Exchange) -> None:
    got, completion, _ = await replay(exchange, 7)
    wanted = gemini.expected(exchange)
    assert like(got, wanted) == wanted
    assert completion is None or signatures(completion) == gemini.states(exchange)


@pytest.mark.parametrize("exchange", params(*EMBEDDINGS))
async def test_recorded_embeddings_are_carried_both_ways(exchange: Exchange) -> None:
    assert (await replay(exchange))[0] == gemini.expected(exchange)


@pytest.mark.parametrize("exchange", params(*OTHERS))
def test_other_operations_wait_for_their_surface(exchange: Exchange) -> None:
    pytest.skip(gemini.SKIPPED[exchange.operation])
