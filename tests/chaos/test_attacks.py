"""What people send to break in or to break things: all of it refused with the right status, and the gateway goes on.

One gateway takes it all; at the end it still answers, and holds no more memory than before by a margin.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from support.chaos.attacked import AUTH, CHAT, JSON, KEY, Attacked, Verdicts, chat
from support.chaos.raw import Got, request, send

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

DEEP = 100_000
LAST = "connection: close"


@dataclass(frozen=True)
class Attack:
    """Bytes, and the statuses that may answer them; two answers mean that a second request was smuggled in."""

    name: str
    data: bytes
    allowed: Sequence[int]


def posted(name: str, body: bytes | dict[str, Any], allowed: Sequence[int], *headers: str) -> Attack:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Attack(name, request(CHAT, data, AUTH, JSON, LAST, *headers), allowed)


def keyed(name: str, *headers: str, allowed: Sequence[int] = (401,)) -> Attack:
    return Attack(name, request(CHAT, json.dumps(chat()).encode(), JSON, LAST, *headers), allowed)


KEYS = [
    keyed("no key"),
    keyed("empty bearer", "authorization: Bearer "),
    keyed("wrong key", "authorization: Bearer wrong-key-0123456789"),
    keyed("key with a suffix", f"{AUTH}x"),
    keyed("key cut short", AUTH[:-1]),
    keyed("key in capitals", AUTH.upper().replace("AUTHORIZATION: BEARER", "authorization: Bearer")),
    keyed("basic instead of bearer", f"authorization: Basic {KEY}"),
    keyed("overlong key", f"authorization: Bearer {'k' * 10_000}"),
    keyed("key of odd bytes", "authorization: Bearer \xff\xfe\x80"),
    keyed("two wrong keys", "authorization: Bearer a", "authorization: Bearer b"),
    keyed("who I am, without a key", "x-project: admin", "x-actor: root", "x-key-id: key-00000000"),
    keyed("behind a trusted proxy", "x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1"),
    Attack(
        "key in the query", request(f"{CHAT}?api_key={KEY}&key={KEY}", json.dumps(chat()).encode(), JSON, LAST), (401,)
    ),
]
BODIES = [
    posted("no JSON", b"model=x", (400,)),
    posted("nothing", b"", (400,)),
    posted("invalid UTF-8", b'{"model": "\xff\xfe", "messages": []}', (400,)),
    posted("UTF-16", json.dumps(chat()).encode("utf-16"), (400,)),
    posted(
        "lone surrogate", b'{"model": "openai/x\\ud800", "messages": [{"role": "user", "content": "x 2 0"}]}', (400,)
    ),
    posted("100k levels of arrays", b"[" * DEEP, (400,)),
    posted("100k levels, closed", b"[" * DEEP + b"]" * DEEP, (400,)),
    posted("100k levels of objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP, (400,)),
    posted(
        "100k levels in the content",
        b'{"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": '
        + b"[" * DEEP
        + b"]" * DEEP
        + b"}]}",
        (400,),
    ),
    posted(
        "100k levels in a tool's schema",
        b'{"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "x 2 0"}], "tools": [{"type": '
        b'"function", "function": {"name": "f", "parameters": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}}]}",
        (400,),
    ),
    posted(
        "100k levels in an unknown field",
        b'{"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "x 2 0"}], "odd": '
        + b"[" * DEEP
        + b"]" * DEEP
        + b"}",
        (400,),
    ),
    posted("a number of 10k digits", b'{"model": "m", "messages": [], "seed": ' + b"9" * 10_000 + b"}", (400,)),
    posted("an infinite number", b'{"model": "m", "messages": [], "temperature": 1e999}', (400,)),
    posted("a whole number beyond 64 bits", chat(seed=2**80), (400,)),
    posted("a negative limit", chat(max_tokens=-(2**63)), (400,)),
    posted("a million answers", chat(n=1_000_000), (400,)),
    posted("NaN", b'{"model": "m", "messages": [], "temperature": NaN}', (400,)),
    posted(
        "the model twice: the last one counts",
        b'{"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "x 2 0"}], "model": 5}',
        (400,),
    ),
    posted("a model's name of 1 MB", chat(model="openai/" + "x" * 1_000_000), (400,)),
    posted("line breaks in the model's name", chat(model="openai/x\r\nx-injected: 1"), (200, 400, 404)),
    posted("gzip that unpacks to 1 GB", gzip.compress(bytes(10_000_000)) * 100, (415,), "content-encoding: gzip"),
    posted("packed twice", b"x", (415,), "content-encoding: gzip, gzip"),
    posted("an unknown packing", b"x", (415,), "content-encoding: br"),
]
SIZES = [
    Attack("33 MB", request(CHAT, bytes(33 * 2**20), AUTH, JSON), (413,)),
    Attack("a length of 10^18", request(CHAT, b"", AUTH, "expect: 100-continue", length="1" + "0" * 18), (413,)),
    Attack("a length beyond 64 bits", request(CHAT, b"", AUTH, JSON, length="9" * 30), (400,)),
    Attack("a negative length", request(CHAT, b"", AUTH, JSON, length="-1"), (400,)),
    Attack("a header of 10 MB", request("/v1/models", b"", f"x-a: {'a' * 10_000_000}", method="GET"), (413,)),
    Attack("a header that never ends", b"GET /v1/models HTTP/1.1\r\nx-a: " + b"a" * 10_000_000, (413,)),
    Attack("100k headers", request("/v1/models", b"", *("a: b" for _ in range(100_000)), method="GET"), (413,)),
    Attack("an address of 1 MB", request("/" + "a" * 1_000_000, b"", method="GET"), (413,)),
    Attack(
        "a chunk extension that never ends",
        request(CHAT, b"1;" + b"a" * 1_000_000, AUTH, JSON, "transfer-encoding: chunked"),
        (413,),
    ),
    Attack(
        "trailers that never end",
        request(CHAT, b"1\r\n{\r\n0\r\n" + b"a: b\r\n" * 200_000, AUTH, JSON, "transfer-encoding: chunked"),
        (400, 413),
    ),
]
HIDDEN = b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n"
SMUGGLING = [
    Attack(
        "length and chunks",
        request(CHAT, b"0\r\n\r\n" + HIDDEN, AUTH, JSON, "content-length: 4", "transfer-encoding: chunked"),
        (400,),
    ),
    Attack(
        "chunks and length",
        request(CHAT, b"0\r\n\r\n" + HIDDEN, AUTH, JSON, "transfer-encoding: chunked", "content-length: 60"),
        (400,),
    ),
    Attack("two lengths", request(CHAT, b"{}" + HIDDEN, AUTH, "content-length: 2", "content-length: 60"), (400,)),
    Attack("a list of lengths", request(CHAT, b"{}" + HIDDEN, AUTH, "content-length: 2, 60"), (400,)),
    Attack("a signed length", request(CHAT, b"{}" + HIDDEN, AUTH, "content-length: +2"), (400,)),
    Attack("a hexadecimal length", request(CHAT, b"{}" + HIDDEN, AUTH, "content-length: 0x2"), (400,)),
    Attack("unknown coding", request(CHAT, b"0\r\n\r\n" + HIDDEN, AUTH, "transfer-encoding: xchunked"), (400,)),
    Attack("coding over chunked", request(CHAT, b"0\r\n\r\n", AUTH, "transfer-encoding: chunked, gzip"), (400,)),
    Attack("space before the colon", request(CHAT, b"{}" + HIDDEN, AUTH, "content-length : 2", length="60"), (400,)),
    Attack("folded header", request(CHAT, b"{}", AUTH, "x-a: b\r\n c"), (400,)),
    Attack("line feeds alone", b"POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-length: 0\n\n", (400, 401)),
    Attack("huge chunk", request(CHAT, b"F" * 20 + b"\r\n", AUTH, "transfer-encoding: chunked"), (400,)),
    Attack("carriage return in a value", request("/v1/models", b"", "x-request-id: a\rx-b: c", method="GET"), (400,)),
    Attack("nul in a value", request("/v1/models", b"", "x-request-id: a\0b", method="GET"), (400,)),
    Attack("HTTP/2 on the HTTP port", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), (400,)),
    Attack("TLS on the HTTP port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (400,)),
    Attack("garbage", bytes(range(256)) * 100, (400,)),
]


def asked(name: str, path: str, *allowed: int, method: str = "GET") -> Attack:
    return Attack(name, request(path, b"", AUTH, LAST, method=method), allowed)


PATHS = [
    asked("out of the tree", "/v1/../admin", 404),
    asked("out of the tree, encoded", "/v1/%2e%2e/admin", 404),
    asked("encoded twice", "/v1/%252e%252e/admin", 404),
    asked("to a file", "/v1/models/../../../../etc/passwd", 404),
    asked("to a file, encoded", "/v1/models/..%2f..%2f..%2fetc%2fpasswd", 404),
    asked("encoded slash", "/v1%2fmodels", 404, 200),
    asked("two slashes", "//v1/models", 404),
    asked("a nul", "/v1/models/%00", 404),
    asked("odd bytes", "/v1/models/%ff%fe", 404),
    asked("a line break", "/v1/models/%0d%0ax-injected:%201", 404),
    asked("semicolons", "/v1/models;a=b/../admin", 404),
    asked("a whole address", "http://169.254.169.254/latest/meta-data", 404),
    asked("administration", "/admin", 404),
    asked("internals", "/metrics", 404),
    asked("another method", "/v1/models", 405, method="DELETE"),
    asked("TRACE", "/v1/models", 405, method="TRACE"),
    asked("CONNECT", "/v1/models", 400, 404, 405, method="CONNECT"),
]


@pytest.mark.parametrize(
    ("title", "attacks"),
    [("keys", KEYS), ("bodies", BODIES), ("sizes", SIZES), ("smuggling", SMUGGLING), ("paths", PATHS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_sent_over_http_is_refused(attacked: Attacked, title: str, attacks: list[Attack]) -> None:
    verdicts = Verdicts(f"attacks: {title}")
    for attack in attacks:
        got = await send(attacked.gateway.http, attack.data, quiet=0.1)
        good = len(got.statuses) == 1 and got.statuses[0] in attack.allowed and _plain(got)
        verdicts.add(attack.name, list(attack.allowed), got.statuses or "nothing", good=good)
    verdicts.conclude()
    await attacked.is_as_before()


def _plain(got: Got) -> bool:
    """Whether an answer has our shape, shows no insides, and no header of the attacker's."""
    head, _, body = got.data.partition(b"\r\n\r\n")
    shaped = b'"error"' in body or got.statuses[0] == 200
    return shaped and b"Traceback" not in body and b"\nx-injected" not in head
