"""Requests that are well formed and want something else: another's name, another's network, a place for ever.

See `test_attacks` for those that are malformed.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

import httpx
import pytest
from aigateway_router.authn import key_id
from support.chaos.attacked import AUTH, CHAT, JSON, KEY, Attacked, Verdicts, chat
from support.chaos.echo import MODELS, prompt
from support.chaos.raw import request, send
from support.ledger import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

FORGED = {
    "x-project": "admin",
    "x-actor": "root",
    "x-key-id": "key-00000000",
    "x-gateway-project": "admin",
    "x-gateway-key-id": "key-00000000",
    "x-gateway-actor": "root",
    "x-forwarded-user": "root",
    "grpc-timeout": "1n",
    "grpc-status-details-bin": "AAAA",
    "te": "trailers",
}
PLACES = (
    "http://127.0.0.1:{port}/x.png",
    "http://localhost:{port}/x.png",
    "http://localhost.:{port}/x.png",
    "http://127.1:{port}/x.png",
    "http://2130706433:{port}/x.png",
    "http://0x7f000001:{port}/x.png",
    "http://0177.0.0.1:{port}/x.png",
    "http://0.0.0.0:{port}/x.png",
    "http://[::1]:{port}/x.png",
    "http://[::ffff:127.0.0.1]:{port}/x.png",
    "http://[::ffff:7f00:1]:{port}/x.png",
    "http://[64:ff9b::7f00:1]:{port}/x.png",
    "http://user@127.0.0.1:{port}/x.png",
    "http://127.0.0.1:{port}#@example.com/x.png",
    "http://169.254.169.254/latest/meta-data/iam/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://10.0.0.1/x.png",
    "http://192.168.0.1/x.png",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/x.png",
    "gopher://127.0.0.1:{port}/x",
)
IDS = ("", " ", "a b", 'a"b', "a\\b", "<script>", "x" * 129, "\xff", "a\tb", "$(id)", "${jndi:ldap://x}", "a;b", "a,b")


async def test_nobody_is_who_a_header_says(attacked: Attacked) -> None:
    async with httpx.AsyncClient(base_url=attacked.gateway.http, headers={"x-api-key": KEY}) as client:
        got = await client.post(CHAT, json=chat(), headers=FORGED | {"x-request-id": "forged"})
    assert got.status_code == 200, got.text
    (row,) = wait_for(attacked.gateway.data, 1, "select * from requests where request_id = 'forged'")
    assert (row["project"], row["key_id"]) == ("default", key_id(KEY))
    assert row["status"] == "ok"


async def test_of_two_keys_in_one_header_the_right_one_is_named_in_the_ledger(attacked: Attacked) -> None:
    body = json.dumps(chat()).encode()
    other = "authorization: Bearer another-gateway-key-0123"
    for number, headers in enumerate(((AUTH, other), (other, AUTH))):
        got = await send(attacked.gateway.http, request(CHAT, body, *headers, JSON, f"x-request-id: twice-{number}"))
        if got.statuses == [200]:
            sql = f"select * from requests where request_id = 'twice-{number}'"
            assert [row["key_id"] for row in wait_for(attacked.gateway.data, 1, sql)] == [key_id(KEY)]
        else:
            assert got.statuses == [401]


async def test_an_id_that_is_no_id_is_not_repeated(attacked: Attacked) -> None:
    verdicts = Verdicts("attacks: x-request-id")
    for given in IDS:
        data = request("/v1/models", b"", AUTH, f"x-request-id: {given}", "connection: close", method="GET")
        got = (await send(attacked.gateway.http, data)).header("x-request-id")
        verdicts.add(repr(given[:20]), "one of ours", got[:12] + "…", good=got.startswith("req_"))
    verdicts.conclude()


@pytest.mark.parametrize("provider", ["gemini", "ollama"])
async def test_no_picture_is_fetched_from_inside(attacked: Attacked, provider: str) -> None:
    verdicts = Verdicts(f"attacks: pictures from inside, by {provider}")
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        port = trap.getsockname()[1]
        async with httpx.AsyncClient(base_url=attacked.gateway.http, headers={"x-api-key": KEY}, timeout=30) as client:
            for place in PLACES:
                url = place.format(port=port)
                content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "x 2 0"}]
                body = {"model": MODELS[provider], "messages": [{"role": "user", "content": content}]}
                got = await client.post(CHAT, json=body)
                verdicts.add(place, 400, got.status_code, good=got.status_code == 400 and "trap" not in got.text)
        verdicts.conclude()
        with pytest.raises(BlockingIOError):  # nobody came
            trap.accept()


async def test_clients_who_send_slowly_hold_nobody_up_and_are_sent_away(attacked: Attacked, long: bool) -> None:
    """The limits are 20 seconds: only a long run waits for their end; `test_http_protocol` has short ones."""
    halves = {
        "no byte": b"",
        "half a head": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a:",
        "half a body": request(CHAT, b"{", AUTH, JSON, length="1000"),
        "half a chunk": request(CHAT, b"5\r\n{", AUTH, JSON, "transfer-encoding: chunked"),
    }
    host, _, port = attacked.gateway.http.removeprefix("http://").rpartition(":")
    opened = [(await asyncio.open_connection(host, int(port)), data) for data in halves.values() for _ in range(50)]
    try:
        for (_, writer), data in opened:
            writer.write(data)
        await attacked.is_as_before()
        if long:
            silent = [await asyncio.open_connection(*attacked.gateway.grpc.split(":")) for _ in range(50)]
            async with asyncio.timeout(40):
                await asyncio.gather(*(_until_closed(reader) for reader, _ in [*silent, *(one for one, _ in opened)]))
            for _, writer in silent:
                writer.close()
    finally:
        for (_, writer), _ in opened:
            writer.transport.abort()
    await attacked.is_as_before()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        await reader.read()


async def test_large_bodies_that_never_end_are_held_in_bounds(attacked: Attacked) -> None:
    """Unfinished bodies of 30 MB each: together they may not be kept."""
    host, _, port = attacked.gateway.http.removeprefix("http://").rpartition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(24)]
    try:
        head = request(CHAT, b"", AUTH, JSON, length=str(31 * 2**20))
        for _, writer in opened:
            writer.write(head + bytes(30 * 2**20))
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(10):
                await asyncio.gather(*(writer.drain() for _, writer in opened))
        await attacked.is_as_before(beyond=256 * 2**20)  # `edge.max_buffered_bytes`
    finally:
        for _, writer in opened:
            writer.transport.abort()
    await attacked.is_as_before()


async def test_who_asks_twice_and_leaves_is_noticed(attacked: Attacked) -> None:
    """Two requests sent at once, and the connection closed: neither goes on behind."""
    body = json.dumps(chat(prompt("leaver", 600, 50), stream=True)).encode()
    one = request(CHAT, body, AUTH, JSON, "x-request-id: leaver")
    await send(attacked.gateway.http, one + one, quiet=0.3, seconds=1)
    (row,) = wait_for(attacked.gateway.data, 1, "select * from requests where request_id = 'leaver'")
    assert row["status"] == "cancelled"
