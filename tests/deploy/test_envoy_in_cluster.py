"""Envoy as the components `envoy` and `envoy-tls` run it: the configuration that the tests of Envoy run, as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.certificates import Authority, Mounted
from support.envoy import FOLDER, program
from support.kustomize import Resource, combination, named, of_kind
from support.manifests import containers, holds_together

COMPONENTS = {"envoy": "plain", "envoy-tls": "tls", "envoy-mtls": "mutual"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kustomize")


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def built(component: str, folder: Path) -> list[Resource]:
    return combination(folder, "provider-openai", component)


def files(built: list[Resource]) -> dict[str, str]:
    """What the pod finds in `/etc/envoy`."""
    pod = named(built, "Deployment", "envoy")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if "configMap" in one]
    (mount,) = [one for one in containers(pod)[0]["volumeMounts"] if one["name"] == volume["name"]]
    assert mount["mountPath"] == "/etc/envoy"
    data: dict[str, str] = named(built, "ConfigMap", volume["configMap"]["name"])["data"]
    return data


def test_its_files_are_the_ready_made_ones(built: list[Resource], component: str) -> None:
    folder = FOLDER / "rendered" / COMPONENTS[component]
    ready = {path.name: path.read_text() for path in folder.iterdir() if path.name != "kustomization.yaml"}
    assert files(built) == ready | {"drain.sh": (FOLDER / "drain.sh").read_text()}


def test_envoy_takes_them_as_the_pod_has_them(built: list[Resource], component: str, tmp_path: Path) -> None:
    """But for the folders, which are the pod's."""
    mounted, own = Mounted(tmp_path / "tls"), Authority().mounted(tmp_path / "routers", "envoy")
    folders = {
        "/etc/envoy": str(tmp_path),
        "/run/secrets/tls": str(mounted.certificate.parent),
        "/run/secrets/routers": str(own.folder),
    }
    for name, text in files(built).items():
        for ours, theirs in folders.items():
            text = text.replace(ours, theirs)  # noqa: PLW2901 -- one after the other
        (tmp_path / name).write_text(text)
    pod = named(built, "Deployment", "envoy")["spec"]["template"]["spec"]
    (container,) = containers(pod)
    assert container["command"][:3] == ["envoy", "-c", "/etc/envoy/envoy.yaml"]
    arguments = ["-c", str(tmp_path / "envoy.yaml"), *container["command"][3:], "--mode", "validate"]
    checked = subprocess.run([program(), *arguments], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_it_balances_over_pods_and_nobody_else_may_ask_the_router(built: list[Resource], component: str) -> None:
    for name in ("edge", "router"):
        assert named(built, "Service", name)["spec"]["clusterIP"] == "None"
    (rule,) = named(built, "NetworkPolicy", "router-envoy")["spec"]["ingress"]
    labels = named(built, "Deployment", "envoy")["spec"]["template"]["metadata"]["labels"]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    ways = named(built, "NetworkPolicy", "envoy")["spec"]["egress"]
    assert {port["port"] for way in ways for port in way["ports"]} == {8080, 50051}
    holds_together(built)


def test_it_is_drained_before_it_ends_and_only_then_unready(built: list[Resource]) -> None:
    pod = named(built, "Deployment", "envoy")["spec"]["template"]["spec"]
    (container,) = containers(pod)
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["bash", "/etc/envoy/drain.sh"]
    assert pod["terminationGracePeriodSeconds"] >= int(command[-1]) + 10
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert "httpGet" not in container["livenessProbe"]
    assert named(built, "PodDisruptionBudget", "envoy")["spec"]["maxUnavailable"] == 1


def test_tls_is_by_a_secret_that_stays_outside(folder: Path) -> None:
    built = combination(folder, "envoy-tls")
    pod = named(built, "Deployment", "envoy")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": "envoy-tls", "defaultMode": 0o440}
    (mount,) = [one for one in containers(pod)[0]["volumeMounts"] if one["name"] == volume["name"]]
    assert f"{mount['mountPath']}/tls.crt" in files(built)["certificate.yaml"]
    assert of_kind(built, "Secret") == []
    assert named(built, "Service", "envoy")["spec"]["ports"][0]["port"] == 443


def test_with_mutual_tls_it_shows_the_routers_a_certificate_of_their_authority(folder: Path) -> None:
    built = combination(folder, "provider-openai", "envoy-mtls", "mtls")
    certificate = named(built, "Certificate", "envoy")["spec"]
    assert named(built, "Issuer", certificate["issuerRef"]["name"])
    pod = named(built, "Deployment", "envoy")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one.get("secret", {}).get("secretName") == certificate["secretName"]]
    (mount,) = [one for one in containers(pod)[0]["volumeMounts"] if one["name"] == volume["name"]]
    assert f"{mount['mountPath']}/tls.crt" in files(built)["routers.yaml"]
    assert f"{mount['mountPath']}/ca.crt" in files(built)["routers-ca.yaml"]
    router = named(built, "Certificate", "router")["spec"]
    assert 'exact: "router"' in files(built)["envoy.yaml"]
    assert "router" in router["dnsNames"]
