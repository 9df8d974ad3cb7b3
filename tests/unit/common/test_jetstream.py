"""The connection to a real NATS server and the stream there: what is made, what is left alone, what is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aigateway_common.event_stream import STREAM, SUBJECT, EventStream
from aigateway_common.jetstream import Connection, Link, StreamError, events, faults
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType
from structlog.testing import capture_logs
from support import nats
from support.certificates import Authority
from support.envoy import free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[nats.NatsServer]:
    with nats.running(tmp_path) as running:
        yield running


@asynccontextmanager
async def connected(url: str, replicas: int = 1) -> AsyncIterator[Connection]:
    link = Link(EventStream(url, replicas), "test")
    try:
        yield await link.connected()
    finally:
        await link.close()


async def refusal(url: str, replicas: int = 1) -> str:
    with capture_logs() as lines, pytest.raises(StreamError) as caught:
        async with connected(url, replicas):
            pass
    assert "secret" not in f"{caught.value}{lines}"
    return str(caught.value)


async def test_a_missing_stream_is_made_and_keeps_each_event_in_a_file_until_it_is_taken(
    server: nats.NatsServer,
) -> None:
    async with connected(server.url) as connection:
        config = (await connection.context.stream_info(STREAM)).config
    assert (config.storage, config.retention, config.discard) == ("file", "workqueue", "new")
    assert (config.subjects, config.duplicate_window, config.num_replicas) == ([SUBJECT], 600, 1)
    assert config.max_bytes == 1 << 30
    assert faults(config) is None


async def test_a_stream_that_is_there_stays_as_it_is(server: nats.NatsServer) -> None:
    async with server.client() as own:
        theirs = replace(events(1), retention=RetentionPolicy.LIMITS, max_bytes=5_000_000, duplicate_window=30)
        before = (await own.jetstream().add_stream(theirs)).config
        async with connected(server.url) as connection:
            await connection.context.stream_info(STREAM)
        assert (await own.jetstream().stream_info(STREAM)).config == before


async def test_a_changed_password_is_shown_at_the_next_connection(tmp_path: Path) -> None:
    with nats.running(tmp_path, "--user", "me", "--pass", "old-secret", user="me:old-secret@") as server:
        link = Link(EventStream(server.url), "test")
        first = await link.connected()
        link.log_in(EventStream(server.url.replace("old-secret", "new-secret")))
        link.log_in(EventStream("nats://me:another@127.0.0.1:1"))
        link.log_in(None)
        assert await link.connected() is first, "what is open stays"
        server.kill()
        async with asyncio.timeout(20):
            await first.lost
        server.change("old-secret", "new-secret")
        server.start()
        connection = await link.connected()
        assert (await connection.context.stream_info(STREAM)).config.name == STREAM
        await link.close()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"storage": StorageType.MEMORY}, "is kept in memory; make it anew with file storage"),
        ({"retention": RetentionPolicy.INTEREST}, "keeps events only while somebody wants them"),
        ({"discard": DiscardPolicy.OLD}, "gives up its oldest events when it is full; set `discard` to new"),
        ({"no_ack": True}, "acknowledges nothing"),
    ],
    ids=["memory", "interest", "discard old", "no ack"],
)
async def test_a_stream_that_would_lose_what_it_acknowledged_is_refused(
    server: nats.NatsServer, changes: dict[str, object], why: str
) -> None:
    async with server.client() as own:
        await own.jetstream().add_stream(replace(events(1), **changes))  # type: ignore[arg-type] # fields of it
    assert why in await refusal(server.url)


def test_a_stream_without_a_limit_has_no_oldest_to_give_up() -> None:
    assert faults(replace(events(1), discard=DiscardPolicy.OLD, max_bytes=-1)) is None


async def test_more_replicas_than_there_are_servers_are_refused_with_the_reason(server: nats.NatsServer) -> None:
    assert "replicas > 1 not supported in non-clustered mode" in await refusal(server.url, replicas=3)


async def test_a_server_that_is_away_is_named_with_the_setting() -> None:
    port = free_port()
    told = await refusal(f"nats://me:secret@127.0.0.1:{port}")
    assert told.startswith(f"`usage.nats_url` (NATS_URL): `nats://127.0.0.1:{port}` cannot be reached: ")


async def test_of_several_servers_one_that_answers_is_enough(server: nats.NatsServer) -> None:
    async with connected(f"nats://127.0.0.1:{free_port()},{server.url}") as connection:
        assert connection.client.is_connected


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    with nats.running(tmp_path, jetstream=False) as server:
        assert "has no JetStream (nats-server needs `-js`)" in await refusal(server.url)


async def test_a_wrong_password_is_told_with_the_setting_and_the_right_one_is_taken(tmp_path: Path) -> None:
    with nats.running(tmp_path, "--user", "me", "--pass", "p@ss:word") as server:
        host = server.url.removeprefix("nats://")
        for wrong in ("me:secret@", "secret@", ""):
            told = await refusal(f"nats://{wrong}{host}")
            assert told.startswith(f"`usage.nats_url` (NATS_URL): `nats://{host}` ")
            assert "user, password or token in it" in told
        async with connected(f"nats://me:p%40ss%3Aword@{host}") as connection:
            assert connection.client.is_connected


async def test_a_token_is_taken(tmp_path: Path) -> None:
    with nats.running(tmp_path, "--auth", "a-token", user="a-token@") as server:
        async with connected(server.url) as connection:
            assert connection.client.is_connected


async def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Authority().mounted(tmp_path / "tls", "127.0.0.1")
    options = ("--tls", "--tlscert", str(secret.folder / "tls.crt"), "--tlskey", str(secret.folder / "tls.key"))
    with nats.running(tmp_path, *options, scheme="tls") as server:
        assert "CERTIFICATE_VERIFY_FAILED" in await refusal(server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(secret.folder / "ca.crt"))
        async with connected(server.url) as connection:
            assert connection.client.is_connected


async def test_a_lost_connection_is_noticed_and_made_anew_by_the_next_use(server: nats.NatsServer) -> None:
    link = Link(EventStream(server.url), "test")
    first = await link.connected()
    assert await link.connected() is first
    server.kill()
    await first.lost
    server.start()
    assert (await (await link.connected()).context.stream_info(STREAM)).config.name == STREAM
    await link.close()


WITHOUT = """
import sys
sys.modules["nats"] = None
from aigateway_common.event_stream import EventStream
from aigateway_common.settings import ConfigurationError
from aigateway_router.server import RouterComponent
from aigateway_router.settings import RouterSettings
from aigateway_usage.server import UsageComponent
from aigateway_usage.settings import UsageSettings
from pathlib import Path

for make in (
    lambda stream: UsageComponent(UsageSettings("sqlite:////nowhere/ledger.db", events=stream)),
    lambda stream: RouterComponent(RouterSettings(outbox_dir=Path("/n"), events=stream), providers={}, usage=None),
):
    try:
        make(EventStream("nats://n:4222"))
    except ConfigurationError as error:
        print(error)
    make(None)
"""


def test_without_a_url_the_client_of_nats_is_not_needed_and_with_one_it_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    line = "usage.nats_url: needs the client of NATS: `pip install nats-py`\n"
    assert (done.stdout, done.returncode) == (line * 2, 0), done.stderr
