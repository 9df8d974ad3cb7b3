"""Every recorded Anthropic exchange through the whole path in its own dialect: what was sent, and what comes back.

An answer is the recorded one field by field. Differences, each with its reason:

- Errors: the message names the provider and `request_id` is the gateway's, since the provider's is of no use to
  callers; a key that Anthropic refused is the gateway's own, so the caller gets a 502 `api_error` and not a 401.
- One recorded request is malformed (a message that is a bare string); the gateway refuses it by itself, in its words.
- Streams: neighbouring deltas of a block may be cut elsewhere, pings stand elsewhere, and the input of a server tool
  comes in one piece, since such a block travels whole.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.exchanges import Exchange, load, params
from support.recorded.anthropic import differences
from support.replay import Answer
from support.whole import KEY, Whole

MESSAGES = load("anthropic", "messages")
COUNTS = load("anthropic", "count_tokens")
HEADERS = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
ERRORS = {
    400: (400, "invalid_request_error"),
    401: (502, "api_error"),
    404: (404, "not_found_error"),
}


async def post(whole: Whole, exchange: Exchange, path: str) -> httpx.Response:
    whole.answer(Answer.recorded(exchange))
    body = exchange.request | {"model": f"anthropic/{exchange.request['model']}"}
    async with httpx.AsyncClient(base_url=whole.gateway.http, headers=HEADERS, timeout=30) as client:
        return await client.post(path, json=body)


def malformed(exchange: Exchange) -> bool:
    return not all(isinstance(message, dict) for message in exchange.request["messages"])


def events(body: bytes) -> list[dict[str, Any]]:
    """The events without pings, the pieces of each delta joined."""
    found: list[dict[str, Any]] = []
    for record in body.decode().split("\n\n"):
        lines = [line for line in record.splitlines() if line and not line.startswith(":")]
        if not lines:
            continue
        event = json.loads(lines[1].removeprefix("data:"))
        assert lines[0].removeprefix("event:").strip() == event["type"]
        if event["type"] == "content_block_delta":
            if join(found[-1], event):
                continue
            if not any(value for key, value in event["delta"].items() if key != "type"):
                continue  # an empty piece says nothing
        if event["type"] != "ping":
            found.append(event)
    return found


def join(before: dict[str, Any], event: dict[str, Any]) -> bool:
    ours, theirs = before.get("delta"), event["delta"]
    if before["type"] != "content_block_delta" or ours is None or ours["type"] != theirs["type"]:
        return False
    (key,) = set(theirs) - {"type"}
    if not isinstance(ours[key], str):
        return False
    ours[key] += theirs[key]
    return True


def parsed(event: dict[str, Any]) -> dict[str, Any]:
    """An event with the input of a tool as JSON, not as text: it may be spaced in another way."""
    delta = event.get("delta", {})
    if "partial_json" in delta:
        return event | {"delta": delta | {"partial_json": json.loads(delta["partial_json"] or "{}")}}
    return event


@pytest.mark.parametrize("exchange", params(*(one for one in MESSAGES if one.status == 200)))
async def test_the_recorded_answer_comes_back_field_by_field(whole: Whole, exchange: Exchange) -> None:
    answer = await post(whole, exchange, "/v1/messages")
    assert answer.status_code == 200, answer.text
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers.get("x-gateway-translation") is None
    if exchange.streamed:
        assert [parsed(event) for event in events(answer.content)] == [parsed(event) for event in events(exchange.body)]
    else:
        assert answer.json() == exchange.json()
    (sent,) = whole.upstream.requests
    assert differences(sent.json(), exchange.request) == []


@pytest.mark.parametrize("exchange", params(*(one for one in MESSAGES if one.status != 200)))
async def test_a_recorded_error_comes_back_in_its_own_shape(whole: Whole, exchange: Exchange) -> None:
    answer = await post(whole, exchange, "/v1/messages")
    error = answer.json()
    assert (answer.status_code, error["error"]["type"]) == ERRORS[exchange.status]
    assert (error["type"], error["request_id"]) == ("error", answer.headers["request-id"])
    if malformed(exchange):
        assert error["error"]["message"] == "`messages[0]` has the wrong type: `messages` must be a list of objects"
        assert whole.upstream.requests == []
        return
    if exchange.status != 401:
        assert error["error"]["message"] == "anthropic: " + exchange.json()["error"]["message"]
    (sent,) = whole.upstream.requests
    assert differences(sent.json(), exchange.request) == []


@pytest.mark.parametrize("exchange", params(*COUNTS))
async def test_a_recorded_count_comes_back(whole: Whole, exchange: Exchange) -> None:
    answer = await post(whole, exchange, "/v1/messages/count_tokens")
    if exchange.status == 200:
        assert (answer.status_code, answer.json()) == (200, exchange.json())
    else:
        assert (answer.status_code, answer.json()["error"]["type"]) == ERRORS[exchange.status]
    (sent,) = whole.upstream.requests
    assert sent.path == "/v1/messages/count_tokens"
    assert differences(sent.json(), exchange.request) == []
