"""The template: Envoy takes what is made of it in every variant, and what does not fit is refused with the reason."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aigateway_edge.settings import EdgeSettings
from support.certificates import Authority, Mounted
from support.envoy import FOLDER, program
from support.identity import IdentityProvider

RENDER = FOLDER / "render.py"
TLS, MUTUAL, JWT_FILE, JWT_URL, OTLP, REST = "tls", "mutual", "jwt-file", "jwt-url", "otlp", "rest"
REST_OF_SETTINGS = [
    "GRPC_WEB_ORIGIN=https://app.example",
    "OPERATORS=on",
    "DNS_SERVER=127.0.0.1:53",
    "EDGES=a:1,[::1]:2",
]
VARIANTS = [
    tuple(name for name in chosen if name)
    for chosen in itertools.product(("", TLS, MUTUAL), ("", JWT_FILE, JWT_URL), ("", OTLP), ("", REST))
]


def render(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(RENDER), "--out", str(folder), *settings]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def settings(variant: tuple[str, ...], folder: Path) -> list[str]:
    jwt = ["JWT_ISSUER=https://id.example/", "JWT_AUDIENCE=gateway"]
    given: list[str] = [f"FOLDER={folder}"]
    if TLS in variant:
        mounted = Mounted(folder / "tls")
        given += [f"TLS_CERTIFICATE={mounted.certificate}", f"TLS_KEY={mounted.key}"]
    if MUTUAL in variant:
        secret = Authority().mounted(folder / "mutual", "envoy").folder
        files = {"CERTIFICATE": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
        given += [f"ROUTERS_{name}={secret / file}" for name, file in files.items()]
    if JWT_FILE in variant:
        keys = folder / "jwks.json"
        IdentityProvider().write(keys)
        given += [*jwt, f"JWT_JWKS={keys}"]
    if JWT_URL in variant:
        given += [*jwt, "JWT_JWKS=https://id.example/jwks.json"]
    if OTLP in variant:
        given += ["OTLP=https://collector.example:4317"]
    return given + (REST_OF_SETTINGS if REST in variant else [])


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "+".join(variant) or "plain")
def test_envoy_takes_every_variant(variant: tuple[str, ...], tmp_path: Path) -> None:
    made = render(tmp_path, *settings(variant, tmp_path))
    assert made.returncode == 0, made.stderr
    command = [program(), "--mode", "validate", "--log-level", "warning", "-c", str(tmp_path / "envoy.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "deprecated" not in checked.stderr.lower()


@pytest.mark.parametrize("variant", ["plain", "tls", "mutual"])
def test_the_ready_made_files_are_what_the_template_makes(variant: str, tmp_path: Path) -> None:
    given = []
    if variant != "plain":
        given += ["TLS_CERTIFICATE=/run/secrets/tls/tls.crt", "TLS_KEY=/run/secrets/tls/tls.key"]
    if variant == "mutual":
        files = {"CERTIFICATE": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
        given += [f"ROUTERS_{name}=/run/secrets/routers/{file}" for name, file in files.items()]
    assert render(tmp_path, *given).returncode == 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = [path for path in (FOLDER / "rendered" / variant).iterdir() if path.name != "kustomization.yaml"]
    assert made == {path.name: path.read_text() for path in kept}, "run `make envoy`"


def test_envoys_own_door_is_on_loopback() -> None:
    for path in (FOLDER / "rendered").glob("*/envoy.yaml"):
        admin = yaml.safe_load(path.read_text())["admin"]["address"]["socket_address"]
        assert admin == {"address": "127.0.0.1", "port_value": 9901}


def test_no_route_ends_a_stream_or_sends_again_what_was_sent() -> None:
    """Envoy's own limit is 15 seconds for a whole answer; a match on `grpc: {}` does not see gRPC-Web."""
    for path in (FOLDER / "rendered").glob("*/envoy.yaml"):
        front = yaml.safe_load(path.read_text())["static_resources"]["listeners"][0]
        manager = front["filter_chains"][0]["filters"][0]["typed_config"]
        (host,) = manager["route_config"]["virtual_hosts"]
        routes = [one for one in host["routes"] if "route" in one]
        assert {one["route"]["cluster"] for one in routes} == {"routers", "edges"}
        assert {one["route"]["timeout"] for one in routes} == {"0s"}
        assert not [one for one in host["routes"] if "grpc" in one["match"]]
        assert not [one for one in routes if "retry_policy" in one["route"]]
        sent_again = set(host["retry_policy"]["retry_on"].split(","))
        assert sent_again == {"connect-failure", "refused-stream", "reset-before-request"}
        assert float(manager["stream_idle_timeout"].removesuffix("s")) > EdgeSettings().max_timeout


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("EDGE=a:1", "`EDGE` is not a setting"),
        ("EDGES=edge", "`EDGES` must be host:port, not 'edge'"),
        ("ROUTERS=router:0", "`ROUTERS` must be host:port"),
        ("ADMIN=0.0.0.0:9901", "`ADMIN` must be on loopback"),
        ("TLS_KEY=/k", "`TLS_KEY` needs `TLS_CERTIFICATE` too"),
        ("ROUTERS_CERTIFICATE=/k", "`ROUTERS_CERTIFICATE` needs `ROUTERS_KEY` too"),
        ("ROUTERS_CA=/k", "`ROUTERS_CA` needs `ROUTERS_CERTIFICATE` too"),
        ("ROUTERS_NAME=router", "`ROUTERS_NAME` needs `ROUTERS_CERTIFICATE` too"),
        ("JWT_JWKS=/k", "`JWT_JWKS` needs `JWT_ISSUER` too"),
        ("RATE_BURST=many", "`RATE_BURST` must be a whole number"),
        ("OTLP=collector:4317", "must be an http or https address"),
        ("OPERATORS=perhaps", "`OPERATORS` must be `on` or `off`"),
        ('JWT_ISSUER=a"}: b', "`JWT_ISSUER` holds a character"),
        ("EDGES", "'EDGES' must be NAME=VALUE"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting: str, reason: str, tmp_path: Path) -> None:
    made = render(tmp_path / "out", setting)
    assert made.returncode == 1
    assert reason in made.stderr
    assert not (tmp_path / "out").exists()


def test_every_setting_is_documented() -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "import render; print(*render.SETTINGS)"], cwd=FOLDER, capture_output=True, check=True
    )
    readme = (FOLDER / "README.md").read_text()
    assert [name for name in listed.stdout.decode().split() if f"`{name}`" not in readme] == []
