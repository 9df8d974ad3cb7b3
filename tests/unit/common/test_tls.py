"""Mutual TLS on loopback: who is served, and certificates that change under calls and connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aigateway.v1 import gateway_service_pb2 as pb
from aigateway.v1 import gateway_service_pb2_grpc
from aigateway_common import tls
from aigateway_common.serving import GrpcServer, grpc_channel, grpc_server
from aigateway_common.tls import Certificates, Tls
from grpc import aio
from structlog.testing import capture_logs
from support.certificates import Authority, Secret

NAMES = ("localhost", "127.0.0.1")
REQUEST = pb.ListModelsRequest()


class Peers:
    """A component that notes which certificate each call's client has shown; a call waits for `go`."""

    service_names: tuple[str, ...] = ("aigateway.v1.GatewayService",)

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    def register(self, server: aio.Server) -> None:
        class Servicer(gateway_service_pb2_grpc.GatewayServiceServicer):
            ListModels = staticmethod(self.list_models)

        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(Servicer(), server)  # type: ignore[abstract] # one method is enough

    async def list_models(self, request: Any, context: Any) -> pb.ListModelsResponse:
        del request
        self.seen += context.auth_context()["x509_pem_cert"]
        self.begun.set()
        await self.go.wait()
        return pb.ListModelsResponse()

    async def start(self) -> None:
        """Nothing is opened."""

    async def stop(self, grace: float) -> None:
        """Nothing is closed."""


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at each time."""
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.0)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secret(authority: Authority, tmp_path: Path) -> Secret:
    return authority.mounted(tmp_path / "secret", *NAMES)


def of(secret: Secret, server_name: str | None = None) -> Certificates:
    folder = secret.folder
    return Certificates(Tls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", server_name))


def content(secret: Secret) -> bytes:
    return (secret.folder / "tls.crt").read_bytes()


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
async def server(secret: Secret, peers: Peers) -> AsyncIterator[GrpcServer]:
    server = grpc_server([peers], "127.0.0.1:0", certificates=of(secret))
    await server.start()
    yield server
    await server.drain(1)


@pytest.fixture
def target(server: GrpcServer) -> str:
    return f"127.0.0.1:{server.port}"


async def ask(channel: aio.Channel) -> None:
    await gateway_service_pb2_grpc.GatewayServiceStub(channel).ListModels(REQUEST, timeout=10)


async def refused(channel: aio.Channel) -> str:
    """Why a call does not reach the server."""
    async with channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


async def test_a_client_of_the_same_ca_is_served_and_known(target: str, secret: Secret, peers: Peers) -> None:
    async with grpc_channel(target, of(secret)) as channel:
        await ask(channel)
    assert peers.seen == [content(secret)]


async def test_whoever_has_no_certificate_of_the_ca_is_refused(
    target: str, authority: Authority, tmp_path: Path, peers: Peers
) -> None:
    stranger = Secret(tmp_path / "stranger", Authority("other").issue(*NAMES) | {"ca.crt": authority.pem})
    await refused(grpc_channel(target, of(stranger)))
    await refused(aio.secure_channel(target, grpc.ssl_channel_credentials(authority.pem)))
    await refused(grpc_channel(target))
    assert peers.seen == []


async def test_a_server_of_another_ca_or_name_is_not_spoken_to(
    target: str, secret: Secret, authority: Authority, tmp_path: Path
) -> None:
    distrustful = Secret(tmp_path / "other", authority.issue(*NAMES) | {"ca.crt": Authority("other").pem})
    assert "CERTIFICATE_VERIFY_FAILED" in (await refused(grpc_channel(target, of(distrustful)))).upper()
    with capture_logs() as logs:
        assert "Hostname Verification Check failed" in await refused(grpc_channel(target, of(secret, "router")))
    (line,) = [each for each in logs if each["event"] == "a service cannot be reached by TLS"]
    assert (line["target"], line["expected_name"]) == (target, "router")
    assert "Hostname Verification Check failed" in line["error"]


async def test_a_name_may_stand_for_all_addresses(target: str, secret: Secret, peers: Peers) -> None:
    async with grpc_channel(f"ipv4:{target},{target}", of(secret, "localhost")) as channel:
        await ask(channel)
    assert len(peers.seen) == 1


async def test_new_calls_show_the_new_certificate_and_one_under_way_ends_on_the_old_connection(
    target: str, secret: Secret, authority: Authority, peers: Peers
) -> None:
    async with grpc_channel(target, of(secret)) as channel:
        peers.go.clear()
        first = asyncio.create_task(ask(channel))
        await peers.begun.wait()
        old = content(secret)
        secret.swap(authority.issue(*NAMES))
        second = asyncio.create_task(ask(channel))
        while len(peers.seen) < 2:
            peers.begun.clear()
            await peers.begun.wait()
        assert not first.done()
        peers.go.set()
        await asyncio.gather(first, second)
    assert peers.seen == [old, content(secret)]
    assert old != content(secret)


async def test_a_server_shows_new_connections_its_new_certificate(
    target: str, secret: Secret, authority: Authority, tmp_path: Path, peers: Peers
) -> None:
    client = of(authority.mounted(tmp_path / "client", *NAMES))
    secret.swap(authority.issue("renamed"))
    await refused(grpc_channel(target, client))
    async with grpc_channel(target, of(authority.mounted(tmp_path / "another", *NAMES), "renamed")) as channel:
        await ask(channel)
    assert len(peers.seen) == 1


def test_files_that_cannot_be_used_change_nothing_and_are_logged_once(secret: Secret, authority: Authority) -> None:
    certificates = of(secret)
    before = certificates.current()
    torn = authority.issue(*NAMES) | {"tls.key": authority.issue(*NAMES)["tls.key"]}
    with capture_logs() as logs:
        secret.swap(torn)
        assert certificates.current() is before
        assert certificates.current() is before
        secret.swap(authority.issue(*NAMES))
        assert certificates.current().certificate == content(secret)
    assert [line["event"] for line in logs] == ["certificates not taken: they cannot be used", "certificates taken"]
    assert logs[0]["setting"] == "key"
    assert "PRIVATE" not in str(logs)


def test_files_are_looked_at_once_a_second_at_most(
    secret: Secret, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(tls, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr("aigateway_common.tls.time.monotonic", lambda: now)
    certificates = of(secret)
    before = certificates.current()
    secret.swap(authority.issue(*NAMES))
    now = 100.9
    assert certificates.current() is before
    now = 101.0
    assert certificates.current() is not before


def test_files_that_are_swapped_while_they_are_read_are_read_again(
    secret: Secret, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = of(secret).tls
    new = authority.issue(*NAMES)
    content_of = tls._content

    def swapped_after_the_certificate(part: tls.Part, path: Path) -> bytes:
        found = content_of(part, path)
        if part == "certificate" and found != new["tls.crt"]:
            secret.swap(new)
        return found

    monkeypatch.setattr(tls, "_content", swapped_after_the_certificate)
    pem = tls.read(where)
    assert (pem.certificate, pem.key) == (new["tls.crt"], new["tls.key"])


def test_a_file_that_is_away_for_a_moment_is_no_reason_to_forget_it(secret: Secret, authority: Authority) -> None:
    certificates = of(secret)
    before = certificates.current()
    os.rename(secret.folder / "..data", secret.folder / "..away")  # noqa: PTH104 -- a link, not what it leads to
    assert certificates.current() is before
    os.rename(secret.folder / "..away", secret.folder / "..data")  # noqa: PTH104 -- a link, not what it leads to
    assert certificates.current() == before
