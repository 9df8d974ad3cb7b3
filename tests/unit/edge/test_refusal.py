"""Calls that there is no room for: refused in their own dialect, at once or on the long way, with the same answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_common.load import FULL
from aigateway_edge.app import create_app
from aigateway_edge.settings import EdgeSettings

QUICK = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages")
CALLS = (*QUICK, "/chat/completions", "/v1/completions", "/v1/messages/count_tokens")


def built(**settings: Any) -> Any:
    return create_app(EdgeSettings(**settings), gateway=InProcessChannel(InProcessServer()))


async def answered(app: Any, path: str, *, full: bool = True) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and body of what a request on `path` gets."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    state = {FULL: True} if full else {}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"anthropic-version", b"2023-06-01")],
        "query_string": b"",
        "state": state,
    }
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


@pytest.mark.parametrize("path", CALLS)
async def test_a_call_without_room_is_told_when_to_come_again(path: str) -> None:
    status, headers, body = await answered(built(), path)
    assert headers[b"retry-after"] == b"1"
    if "messages" in path:
        assert (status, body["error"]["type"]) == (529, "overloaded_error")
    else:
        assert (status, body["error"]["code"]) == (503, "overloaded")


@pytest.mark.parametrize("path", QUICK)
async def test_the_quick_answer_is_that_of_the_long_way(path: str) -> None:
    app = built()
    status, headers, body = await answered(app, path)
    quick = app.refuse(path.encode())
    given = dict(quick.headers)
    ids = {headers.pop(b"x-request-id"), given.pop(b"x-request-id")}
    assert len(ids) == 2
    if "messages" in path:
        assert body.pop("request_id").encode() == headers.pop(b"request-id")
        known = json.loads(quick.body)
        assert known.pop("request_id").encode() == given.pop(b"request-id")
    else:
        known = json.loads(quick.body)
    assert (quick.status, given, known) == (status, headers, body)


@pytest.mark.parametrize("path", [b"/v1/models", b"/admin/keys", b"/ready", b"/chat/completions"])
def test_other_paths_have_no_quick_answer(path: bytes) -> None:
    assert built().refuse(path) is None


def test_where_web_pages_call_there_is_none_since_they_would_not_see_it() -> None:
    assert built(cors_origins=("https://page.example",)).refuse(b"/v1/chat/completions") is None


async def test_with_room_a_call_is_read() -> None:
    status, _, body = await answered(built(), "/v1/chat/completions", full=False)
    assert (status, body["error"]["param"]) == (400, "model")
