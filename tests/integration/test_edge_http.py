"""The edge over HTTP: a real server, the official SDK and raw sockets, in front of a scripted router."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from aigateway.v1 import (
    chat_pb2,
    embedding_pb2,
    gateway_service_pb2,
    message_pb2,
    model_pb2,
    tokens_pb2,
)
from aigateway_common.errors import GatewayError
from aigateway_common.inprocess import InProcessChannel, InProcessServer
from aigateway_edge.app import create_app
from aigateway_edge.settings import EdgeSettings
from openai import AsyncOpenAI
from support.edge import Event, Hold, Router, Served, edge, finish, serve_http, start

HELLO = {"model": "acme/m", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
USAGE = tokens_pb2.TokenUsage(input_uncached=3, output_text=2)


def said(words: str, **fields: Any) -> chat_pb2.ChatCompletion:
    part = message_pb2.Part(text=message_pb2.TextPart(text=words))
    message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[part])
    choice = chat_pb2.Choice(message=message, finish_reason=chat_pb2.FINISH_REASON_STOP)
    return chat_pb2.ChatCompletion(id="chat-1", created=7, model="m-1", choices=[choice], usage=USAGE, **fields)


@pytest.fixture(params=["in process", "over gRPC"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "over gRPC")


@pytest.fixture
async def served(wire: bool) -> AsyncIterator[Served]:
    async with edge(Router(completion=said("hello")), wire=wire) as running:
        yield running


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url) as client:
        yield client


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="key-1", max_retries=0) as client:
        yield client


async def send(
    served: Served, body: Any, *headers: str, path: str = CHAT, method: str = "POST"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One request on a socket of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(data)}", *headers, "", ""]
    writer.write("\r\n".join(lines).encode() + data)
    await writer.drain()
    return reader, writer


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()["error"]
    assert set(body) == {"message", "type", "code", "param"}
    return body


async def test_the_sdk_reads_a_whole_answer(served: Served, sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="acme/m", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    request = served.router.requests[0]
    assert request.call.model == "acme/m"
    assert request.call.translation_policy == chat_pb2.TRANSLATION_POLICY_LENIENT
    assert served.router.metadata["authorization"] == "Bearer key-1"


async def test_the_sdk_reads_a_stream(served: Served, sdk: AsyncOpenAI) -> None:
    served.router.steps = [[start(), Event(text="he")], [Event(text="y"), finish()], [Event(usage=USAGE)]]
    stream = await sdk.chat.completions.create(
        model="acme/m",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hey"
    assert [chunk.usage.total_tokens if chunk.usage else None for chunk in chunks][-2:] == [None, 5]
    assert chunks[-1].choices == []


async def test_the_sdk_reads_tool_calls_from_a_stream(served: Served, sdk: AsyncOpenAI) -> None:
    call = chat_pb2.ToolCallStart(id="c1", name="f")
    state = message_pb2.ProviderState(provider="gemini", state=b"sig")
    served.router.steps = [
        [start(), Event(tool_call=call), Event(provider_state=state)],
        [Event(arguments='{"a":1}')],
        [finish("TOOL_CALLS")],
    ]
    async with sdk.chat.completions.stream(model="acme/m", messages=[{"role": "user", "content": "hi"}]) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].id, calls[0].function.name, calls[0].function.arguments) == ("c1", "f", '{"a":1}')
    assert calls[0].model_dump()["extra_content"] == {"google": {"thought_signature": "sig"}}


async def test_the_sdk_reads_embeddings_in_both_encodings(served: Served, sdk: AsyncOpenAI) -> None:
    vectors = [embedding_pb2.Embedding(index=0, values=[0.5, -2])]
    served.router.embeddings = gateway_service_pb2.EmbedResponse(
        embeddings=embedding_pb2.Embeddings(model="e", embeddings=vectors, usage=USAGE)
    )
    packed = await sdk.embeddings.create(model="acme/e", input="x")
    plain = await sdk.embeddings.create(model="acme/e", input=["x"], encoding_format="float")
    assert packed.data[0].embedding == plain.data[0].embedding == [0.5, -2]
    assert [request.call.single_input for request in served.router.requests] == [True, False]


async def test_the_sdk_lists_and_finds_models(served: Served, sdk: AsyncOpenAI) -> None:
    served.router.listed.models.append(model_pb2.Model(id="acme/m", provider="acme", upstream_model="m"))
    assert [model.id async for model in sdk.models.list()] == ["acme/m"]
    assert (await sdk.models.retrieve("acme/m")).owned_by == "acme"
    with pytest.raises(openai.NotFoundError, match="did you mean `acme/m`"):
        await sdk.models.retrieve("acme/n")


async def test_headers_tell_where_the_call_went(served: Served, http: httpx.AsyncClient) -> None:
    note = chat_pb2.TranslationNote(
        field="seed", action=chat_pb2.TRANSLATION_ACTION_DROPPED, detail="naïve\r\nx-evil: 1; 2"
    )
    served.router.completion = said("x", translation=[note])
    response = await http.post(CHAT, json=HELLO, headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert served.router.metadata["x-request-id"] == "mine-1"
    assert (response.headers["x-provider"], response.headers["x-model"]) == ("acme", "m")
    assert response.headers["x-gateway-translation"] == "seed=dropped (na?ve??x-evil: 1, 2)"
    assert "x-evil" not in response.headers
    timing = re.fullmatch(
        r"edge;dur=([\d.]+), router;dur=0\.030, adapter;dur=0\.020, upstream;dur=0\.100",
        response.headers["server-timing"],
    )
    assert timing is not None
    assert float(timing[1]) > 0


async def test_headers_of_a_stream_tell_the_same(served: Served, http: httpx.AsyncClient) -> None:
    note = chat_pb2.TranslationNote(field="top_k", action=chat_pb2.TRANSLATION_ACTION_CLAMPED)
    served.router.steps = [[start(translation=[note])], [finish()]]
    response = await http.post(CHAT, json=HELLO | {"stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-gateway-translation"] == "top_k=clamped"
    assert response.headers["x-provider"] == "acme"
    assert response.text.endswith("data: [DONE]\n\n")


async def test_what_only_the_end_of_a_stream_shows_is_a_comment_before_it(
    served: Served, http: httpx.AsyncClient
) -> None:
    note = chat_pb2.TranslationNote(
        field="messages", action=chat_pb2.TRANSLATION_ACTION_CLAMPED, detail="cut\n\ndata: x"
    )
    end = finish()
    end.finish.translation.append(note)
    served.router.steps = [[start(), Event(text="hey")], [end]]
    response = await http.post(CHAT, json=HELLO | {"stream": True})
    assert "x-gateway-translation" not in response.headers
    comment, ended, *rest = response.text.split("\n\n")[-4:]
    assert comment == ": x-gateway-translation: messages=clamped (cut??data: x)"
    assert '"finish_reason":"stop"' in ended
    assert rest == ["data: [DONE]", ""]


@pytest.mark.parametrize("bad", [b"a b", "é".encode(), b"x" * 129, b"a;b"], ids=str)
async def test_a_strange_request_id_is_replaced(served: Served, http: httpx.AsyncClient, bad: bytes) -> None:
    response = await http.post(CHAT, json=HELLO, headers=[(b"x-request-id", bad)])
    assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_other_key_headers_reach_the_router(served: Served, http: httpx.AsyncClient, header: str) -> None:
    await http.post(CHAT, json=HELLO, headers={header: "key-2"})
    assert served.router.metadata["x-api-key"] == "key-2"


async def test_deadline_policy_and_trace_reach_the_router(served: Served, http: httpx.AsyncClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-gateway-timeout": "5", "x-gateway-translation-policy": "strict", "traceparent": trace}
    await http.post(CHAT, json=HELLO, headers=headers)
    assert served.router.requests[0].call.translation_policy == chat_pb2.TRANSLATION_POLICY_STRICT
    assert served.router.remaining is not None
    assert 3 < served.router.remaining < 5.1  # gRPC rounds up
    assert served.router.metadata["traceparent"] == trace


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("X-Gateway-Timeout", "soon", 400),
        ("X-Gateway-Timeout", "0", 400),
        ("X-Gateway-Timeout", "nan", 400),
        ("X-Gateway-Timeout", "1e9", 400),
        ("X-Gateway-Translation-Policy", "harsh", 400),
        ("Content-Encoding", "gzip", 415),
        ("Authorization", "Bearer " + "x" * 5000, 401),
    ],
)
async def test_bad_headers_are_named(
    served: Served, http: httpx.AsyncClient, header: str, value: str, status: int
) -> None:
    response = await http.post(CHAT, json=HELLO, headers={header: value})
    assert response.status_code == status
    error = error_of(response)
    assert status != 400 or error["param"] == header
    assert not served.router.requests


async def test_a_web_page_must_send_json(served: Served, http: httpx.AsyncClient) -> None:
    headers = {"origin": "https://evil.example", "content-type": "text/plain"}
    response = await http.post(CHAT, content=json.dumps(HELLO), headers=headers)
    assert response.status_code == 415
    assert "access-control-allow-origin" not in response.headers
    assert not served.router.requests


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (GatewayError("UNAUTHENTICATED", "no key"), 401, openai.AuthenticationError),
        (GatewayError("MODEL_NOT_FOUND", "no model", details={"param": "model"}), 404, openai.NotFoundError),
        (GatewayError("UPSTREAM_RATE_LIMITED", "wait", retry_after=1.2), 429, openai.RateLimitError),
        (GatewayError("UPSTREAM_AUTH", "key", details={"provider": "acme"}), 502, openai.InternalServerError),
        (GatewayError("UPSTREAM_OVERLOADED", "busy"), 503, openai.InternalServerError),
    ],
)
async def test_failures_before_the_first_event_have_their_own_status(
    served: Served, sdk: AsyncOpenAI, stream: bool, error: GatewayError, status: int, kind: type[openai.APIStatusError]
) -> None:
    served.router.completion, served.router.steps = error, [error]
    with pytest.raises(kind) as caught:
        await sdk.chat.completions.create(model="acme/m", messages=[{"role": "user", "content": "hi"}], stream=stream)
    headers = caught.value.response.headers
    assert caught.value.status_code == status
    assert caught.value.body == error.to_openai()["error"]
    assert headers.get("retry-after") == ("2" if error.retry_after else "1" if status == 503 else None)
    assert headers.get("x-provider") == error.details.get("provider")
    assert headers.get("x-should-retry") == ("false" if status == 502 else None)


async def test_a_failure_in_the_stream_is_one_record_without_done(served: Served, http: httpx.AsyncClient) -> None:
    failure = GatewayError("UPSTREAM_INVALID", "cut short")
    served.router.steps = [[start(), Event(text="he")], failure]
    response = await http.post(CHAT, json=HELLO | {"stream": True})
    assert response.status_code == 200
    records = response.text.strip().split("\n\n")
    assert json.loads(records[-1].removeprefix("data: ")) == failure.to_openai()
    assert "[DONE]" not in response.text


async def test_the_sdk_raises_a_failure_in_the_stream(served: Served, sdk: AsyncOpenAI) -> None:
    served.router.steps = [[start(), Event(text="he")], GatewayError("UPSTREAM_INVALID", "cut short")]
    stream = await sdk.chat.completions.create(
        model="acme/m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    with pytest.raises(openai.APIError, match="cut short"):
        [chunk async for chunk in stream]


async def test_a_deadline_that_passes_is_504(served: Served, http: httpx.AsyncClient) -> None:
    served.router.completion = Hold()
    response = await http.post(CHAT, json=HELLO, headers={"x-gateway-timeout": "0.1"})
    assert response.status_code == 504
    assert error_of(response)["code"] == "timeout"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": []}, "messages"),
    ],
)
async def test_bad_input_never_reaches_the_router(
    served: Served, http: httpx.AsyncClient, body: Any, param: str
) -> None:
    response = await http.post(CHAT, json=body)
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert not served.router.requests


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
    ],
)
async def test_unknown_paths_and_methods_have_openais_shape(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert path in error_of(response)["message"]
    assert (status == 405) == ("allow" in response.headers)


async def test_both_paths_of_a_route_answer(served: Served, http: httpx.AsyncClient) -> None:
    assert (await http.post("/chat/completions", json=HELLO)).status_code == 200
    assert (await http.get("/models")).json() == {"object": "list", "data": []}


async def test_readiness_follows_the_router(served: Served, http: httpx.AsyncClient) -> None:
    assert [(await http.get(path)).status_code for path in ("/health", "/live", "/ready")] == [200, 200, 200]
    await served.stop_router()
    assert [(await http.get(path)).status_code for path in ("/health", "/live", "/ready")] == [200, 200, 503]


async def test_an_unreachable_router_is_503(served: Served, http: httpx.AsyncClient) -> None:
    await served.stop_router()
    response = await http.post(CHAT, json=HELLO)
    assert response.status_code == 503
    assert error_of(response)["code"] == "unavailable"


async def test_a_router_without_health_service_counts_as_ready() -> None:
    server = InProcessServer()
    await server.start()
    async with (
        serve_http(create_app(EdgeSettings(), gateway=InProcessChannel(server))) as port,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 200
    await server.stop(None)


async def bytes_in_pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 1000):
        yield b" " * 1000


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(chunked: bool) -> None:
    async with edge(Router(), max_body_bytes=10_000) as served, httpx.AsyncClient() as client:
        content: Any = bytes_in_pieces(40_000) if chunked else b" " * 40_000
        response = await client.post(served.url + CHAT, content=content)
        assert response.status_code == 413
        assert error_of(response)["code"] == "request_too_large"
        exact = json.dumps(HELLO).encode().ljust(10_000)
        served.router.completion = said("x")
        assert (await client.post(served.url + CHAT, content=exact)).status_code == 200


async def test_a_client_that_leaves_cancels_a_whole_call(served: Served) -> None:
    served.router.completion = Hold()
    _, writer = await send(served, HELLO)
    await asyncio.wait_for(served.router.arrived.wait(), 5)
    writer.close()
    await asyncio.wait_for(served.router.cancelled.wait(), 5)


@pytest.mark.parametrize("steps", [[], [[start(), Event(text="he")]]], ids=["before the first event", "mid-stream"])
async def test_a_client_that_leaves_cancels_a_stream(served: Served, steps: list[Any]) -> None:
    served.router.steps = [*steps, Hold()]
    reader, writer = await send(served, HELLO | {"stream": True})
    await asyncio.wait_for(served.router.arrived.wait(), 5)
    if steps:
        await asyncio.wait_for(reader.readuntil(b'"he"'), 5)
    writer.close()
    await asyncio.wait_for(served.router.cancelled.wait(), 5)


ANTHROPIC_HEADERS = ("anthropic-version: 2023-06-01",)
ROUTES = [
    ("POST", CHAT, HELLO),
    ("POST", "/v1/responses", {"model": "acme/m", "input": "hi"}),
    ("POST", "/v1/completions", {"model": "acme/m", "prompt": "hi"}),
    ("POST", "/v1/embeddings", {"model": "acme/m", "input": "hi"}),
    ("POST", "/v1/messages", HELLO | {"max_tokens": 5}),
    ("POST", "/v1/messages/count_tokens", HELLO),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/acme/m", None),
]
EVERY = ROUTES + [(method, path.removeprefix("/v1"), body) for method, path, body in ROUTES if "messages" not in path]


@pytest.mark.parametrize("cors", [False, True])
@pytest.mark.parametrize(("method", "path", "body"), EVERY, ids=[path for _, path, _ in EVERY])
async def test_a_client_that_leaves_cancels_whatever_it_asked_for(
    method: str, path: str, body: Any, cors: bool
) -> None:
    origins = ("https://page.example",) if cors else ()
    async with edge(Router(completion=Hold()), cors_origins=origins) as served:
        headers = (*ANTHROPIC_HEADERS, "origin: https://page.example", "content-type: application/json")
        _, writer = await send(served, body, *headers, path=path, method=method)
        await asyncio.wait_for(served.router.arrived.wait(), 5)
        writer.close()
        await asyncio.wait_for(served.router.cancelled.wait(), 5)


STREAMED = [
    (path, body) for method, path, body in EVERY if method == "POST" and "count" not in path and "emb" not in path
]


@pytest.mark.parametrize(("path", "body"), STREAMED, ids=[path for path, _ in STREAMED])
async def test_a_client_that_leaves_cancels_a_stream_of_any_dialect(path: str, body: Any) -> None:
    async with edge(Router(steps=[[start(), Event(text="he")], Hold()])) as served:
        reader, writer = await send(served, body | {"stream": True}, *ANTHROPIC_HEADERS, path=path)
        await asyncio.wait_for(reader.readuntil(b'"he"'), 5)
        writer.close()
        await asyncio.wait_for(served.router.cancelled.wait(), 5)


async def test_a_client_that_leaves_while_it_sends_disturbs_nobody(served: Served, http: httpx.AsyncClient) -> None:
    _, writer = await send(served, HELLO, "content-length: 99999")
    writer.close()
    assert (await http.post(CHAT, json=HELLO)).status_code == 200
    assert len(served.router.requests) == 1


async def test_a_silent_stream_is_kept_alive_with_comments(wire: bool) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    router = Router(steps=[first, [start(), Event(text="he")], second, [finish()]])
    async with edge(router, wire=wire, heartbeat_seconds=0.05) as served:
        reader, writer = await send(served, HELLO | {"stream": True}, "connection: close")
        head = await asyncio.wait_for(reader.readuntil(b": keep-alive\n\n"), 5)
        assert head.startswith(b"HTTP/1.1 200 OK")
        first.set()
        await asyncio.wait_for(reader.readuntil(b'"he"'), 5)
        await asyncio.wait_for(reader.readuntil(b": keep-alive\n\n"), 5)
        second.set()
        assert b"data: [DONE]\n\n" in await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_failure_after_a_comment_is_a_record(wire: bool) -> None:
    late = asyncio.Event()
    failure = GatewayError("UPSTREAM_OVERLOADED", "busy")
    async with edge(Router(steps=[late, failure]), wire=wire, heartbeat_seconds=0.05) as served:
        reader, writer = await send(served, HELLO | {"stream": True}, "connection: close")
        await asyncio.wait_for(reader.readuntil(b": keep-alive\n\n"), 5)
        late.set()
        rest = await asyncio.wait_for(reader.read(), 5)
        assert json.dumps(failure.to_openai(), separators=(",", ":")).encode() in rest
        assert b"[DONE]" not in rest
        writer.close()


async def test_origins_are_refused_unless_set() -> None:
    preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
    async with edge(Router()) as served, httpx.AsyncClient() as client:
        assert (await client.options(served.url + CHAT, headers=preflight)).status_code == 405
    async with edge(Router(), cors_origins=("https://app.example",)) as served, httpx.AsyncClient() as client:
        response = await client.options(served.url + CHAT, headers=preflight)
        assert response.headers["access-control-allow-origin"] == "https://app.example"


async def test_no_key_or_prompt_is_logged(
    served: Served, http: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    body = {"model": "acme/m", "messages": [{"role": "user", "content": "my-secret-prompt"}]}
    await http.post(CHAT, json=body, headers={"authorization": "Bearer my-secret-key", "x-api-key": "my-other-key"})
    out, err = capfd.readouterr()
    lines = (out + err).splitlines()
    assert sum("operation=chat" in line or '"operation":"chat"' in line for line in lines) == 1
    assert "my-secret" not in out + err
    assert "my-other" not in out + err
