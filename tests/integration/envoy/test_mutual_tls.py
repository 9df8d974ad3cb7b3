"""Routers with mutual TLS behind the real Envoy, which has a certificate of its own for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from aigateway.v1 import gateway_service_pb2 as pb
from aigateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from support.certificates import Authority, Secret, tls_environment
from support.envoy import Envoy, until
from support.gateway import Gateway, environment


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def gateway(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    secret = authority.mounted(folder / "secret", "router")
    with Gateway("embedded", folder, environment(None, **tls_environment(secret))) as gateway:
        yield gateway


def front(gateway: Gateway, secret: Secret, folder: Path, name: str = "router") -> Envoy:
    return Envoy(
        folder / "envoy",
        EDGES=gateway.http.removeprefix("http://"),
        ROUTERS=gateway.grpc,
        ROUTERS_CERTIFICATE=str(secret.folder / "tls.crt"),
        ROUTERS_KEY=str(secret.folder / "tls.key"),
        ROUTERS_CA=str(secret.folder / "ca.crt"),
        ROUTERS_NAME=name,
    )


def listed(envoy: Envoy) -> int:
    with grpc.insecure_channel(envoy.address) as channel:
        return len(GatewayServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=10).models)


def test_callers_come_through_and_a_renewed_certificate_is_taken_without_a_restart(
    gateway: Gateway, authority: Authority, tmp_path: Path
) -> None:
    secret = authority.mounted(tmp_path / "secret", "envoy")
    with front(gateway, secret, tmp_path) as envoy:
        envoy.wait_healthy("routers", {gateway.grpc})
        assert listed(envoy) > 0
        assert httpx.get(f"{envoy.http}/v1/models").status_code == 200
        secret.swap(authority.issue("envoy"))
        # The certificate, and the authorities, which are a secret of their own.
        until(lambda: envoy.stat("cluster.routers.client_ssl_socket_factory.ssl_context_update_by_sds") > 2, "renewal")
        assert listed(envoy) > 0


def test_routers_of_another_name_or_authority_get_no_call(
    gateway: Gateway, authority: Authority, tmp_path: Path
) -> None:
    secret = authority.mounted(tmp_path / "secret", "envoy")
    stranger = Secret(tmp_path / "stranger", Authority("another CA").issue("envoy") | {"ca.crt": authority.pem})
    for number, (shown, name) in enumerate(((secret, "usage"), (stranger, "router"))):
        with front(gateway, shown, tmp_path / str(number), name) as envoy:
            with pytest.raises(grpc.RpcError) as caught:
                listed(envoy)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            until(lambda: envoy.stat("cluster.routers.health_check.failure"), "a health check that fails")
            assert envoy.healthy("routers") == set()
