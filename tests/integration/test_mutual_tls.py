"""Services in processes of their own that speak mutual TLS: who is let in, who is not, and certificates that change."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from aigateway.v1 import gateway_service_pb2 as pb
from aigateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from aigateway_common.serving import grpc_channel
from aigateway_common.tls import Certificates, Tls
from support.certificates import Authority, Secret, tls_environment
from support.gateway import Gateway, command, environment, start

NAMES = ("localhost", "127.0.0.1")
BODY = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hi"}]}


def of(secret: Secret, server_name: str | None = None) -> Certificates:
    folder = secret.folder
    return Certificates(Tls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", server_name))


def shown(address: str) -> bytes:
    """The certificate that the server at `address` shows to who connects now."""
    host, _, port = address.partition(":")
    text: str = ssl.get_server_certificate((host, int(port)), timeout=10)
    return text.encode()


async def listed(target: str, certificates: Certificates | None) -> int:
    async with grpc_channel(target, certificates) as channel:
        answer = await GatewayServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=20)
        return len(answer.models)


def code_of(target: str, certificates: Certificates | None) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(listed(target, certificates))
    code: grpc.StatusCode = caught.value.code()
    return code


class Services:
    """A whole gateway in its processes, with the secret that they all have mounted."""

    def __init__(self, gateway: Gateway, authority: Authority, secret: Secret, folder: Path) -> None:
        self.gateway, self.authority, self.secret, self.folder = gateway, authority, secret, folder


@pytest.fixture(scope="module", params=["embedded", "split", "edge,router", "workers"])
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    secret = authority.mounted(folder / "secret", *NAMES)
    with Gateway(request.param, folder, environment(None, **tls_environment(secret))) as gateway:
        yield Services(gateway, authority, secret, folder)


def test_calls_go_through_every_service(services: Services) -> None:
    answer = httpx.post(f"{services.gateway.http}/v1/chat/completions", json=BODY, timeout=30)
    assert answer.status_code == 200, answer.text
    streamed = httpx.post(f"{services.gateway.http}/v1/chat/completions", json=BODY | {"stream": True}, timeout=30)
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_a_client_with_a_certificate_of_the_ca_is_served(services: Services) -> None:
    assert asyncio.run(listed(services.gateway.grpc, of(services.secret))) > 0


def test_others_are_refused(services: Services, tmp_path: Path) -> None:
    target = services.gateway.grpc
    stranger = Authority("another CA").issue(*NAMES) | {"ca.crt": services.authority.pem}
    assert code_of(target, of(Secret(tmp_path / "stranger", stranger))) is grpc.StatusCode.UNAVAILABLE
    assert code_of(target, None) is grpc.StatusCode.UNAVAILABLE

    async def without() -> None:
        async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(services.authority.pem)) as channel:
            await GatewayServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=20)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(without())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_taken_without_a_restart(services: Services) -> None:
    before = shown(services.gateway.grpc)
    files = services.authority.issue(*NAMES)
    services.secret.swap(files)
    end = time.monotonic() + 15
    while shown(services.gateway.grpc) == before:
        assert time.monotonic() < end, "the old certificate is still shown"
        time.sleep(0.1)
    answer = httpx.post(f"{services.gateway.http}/v1/chat/completions", json=BODY, timeout=30)
    assert answer.status_code == 200, answer.text


def test_a_server_of_another_name_is_not_spoken_to_and_the_log_says_why(tmp_path: Path) -> None:
    authority = Authority()
    there = authority.mounted(tmp_path / "there", "provider-other")
    here = authority.mounted(tmp_path / "here", "provider-sandbox")
    data = ("--grpc-port", "0", "--data-dir", str(tmp_path / "data"))
    adapter = start(
        tmp_path, environment(None, AIGATEWAY_SANDBOX="1", **tls_environment(there)), "serve", "provider:sandbox", *data
    )
    target = f"sandbox={adapter.grpc('provider:sandbox')}"
    env = environment(None, AIGATEWAY_PROVIDER_TARGETS=target, **tls_environment(here))
    env["AIGATEWAY_TLS_SERVER_NAME"] = "provider-sandbox"
    router = start(tmp_path, env, "serve", "edge,router", "--port", "0", *data)
    try:
        answer = httpx.post(f"{router.http}/v1/chat/completions", json=BODY, timeout=30)
        assert answer.status_code == 503, answer.text
        text = router.wait_text("a service cannot be reached by TLS")
        assert '"expected_name":"provider-sandbox"' in text
        assert "Hostname Verification Check failed" in text
    finally:
        codes = [router.stop(), adapter.stop()]
    assert codes == [0, 0]


def test_commands_show_the_certificate_too_and_probes_need_none(tmp_path: Path) -> None:
    secret = Authority().mounted(tmp_path / "secret", *NAMES)
    env = environment(None, **tls_environment(secret))
    data = ("--data-dir", str(tmp_path / "data"))
    usage = start(tmp_path, env, "serve", "usage", "--grpc-port", "0", "--metrics-port", "0", *data)
    try:
        asked = [*command("usage", "--json"), "--target", usage.grpc("usage")]
        with_it = subprocess.run(asked, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (with_it.returncode, with_it.stdout.strip()) == (0, "[]"), with_it.stderr
        without = subprocess.run(
            asked, env=environment(None), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert without.returncode == 1
        (metrics,) = usage.addresses["metrics"].values()
        assert [httpx.get(f"http://{metrics}{path}").status_code for path in ("/live", "/ready")] == [200, 200]
    finally:
        code = usage.stop()
    assert code == 0


def test_a_ledger_that_names_its_callers_answers_nobody_else(tmp_path: Path) -> None:
    authority = Authority()
    own = authority.mounted(tmp_path / "usage", *NAMES, "usage")
    env = environment(None, **tls_environment(own), AIGATEWAY_TLS_CALLERS="router, usage")
    usage = start(tmp_path, env, "serve", "usage", "--grpc-port", "0", "--data-dir", str(tmp_path / "data"))
    asked = [*command("usage", "--json"), "--target", usage.grpc("usage")]
    codes = {}
    try:
        for name in ("router", "provider-openai"):
            theirs = environment(None, **tls_environment(authority.mounted(tmp_path / name, name)))
            done = subprocess.run(asked, env=theirs, cwd=tmp_path, capture_output=True, text=True, check=False)
            codes[name] = (done.returncode, "not for the one whose certificate was shown" in done.stderr)
    finally:
        assert usage.stop() == 0
    assert codes == {"router": (0, False), "provider-openai": (1, True)}


def test_check_config_shows_the_mistakes(tmp_path: Path) -> None:
    secret = Authority().mounted(tmp_path / "secret", *NAMES)
    other = Authority().mounted(tmp_path / "other", *NAMES).folder / "tls.key"
    env = environment(None, **tls_environment(secret, AIGATEWAY_TLS_KEY=str(other)))
    checked = subprocess.run(
        command("check-config"), env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 2
    assert f"AIGATEWAY_TLS_KEY: `{other}` is not the key of the certificate" in checked.stderr
