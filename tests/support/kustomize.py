"""Kustomize itself, from kubectl's wheel or PATH, and what it builds as Python values."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).resolve().parents[2] / "deploy" / "k8s"
COMPONENTS = sorted(
    str(path.parent.relative_to(K8S / "components"))
    for path in (K8S / "components").rglob("kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Component"
)
PROVIDERS = [name for name in COMPONENTS if name.startswith("provider-")]
OVERLAYS = ("dev", "prod")

Resource = dict[str, Any]


def command() -> list[str]:
    """How Kustomize is called here; skips the test where it is not to be had."""
    beside = Path(sys.executable).parent / "kubectl"
    if beside.exists():
        return [str(beside), "kustomize"]
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    pytest.skip("neither kubectl nor kustomize is on PATH, and kubectl has no wheel for this machine")


@cache
def _build(folder: Path) -> str:
    result = subprocess.run([*command(), str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "Kustomize warns of what it will no longer take"
    return result.stdout


def _loaded(folder: Path) -> list[Resource]:
    return list(yaml.load_all(_build(folder), Loader=yaml.CSafeLoader))


def overlay(name: str) -> list[Resource]:
    """What the overlay `name` builds."""
    return _loaded(K8S / "overlays" / name)


def combination(folder: Path, *components: str) -> list[Resource]:
    """What the base and these components build, listed as an overlay would."""
    copy = folder / "k8s"
    if not copy.exists():
        for part in ("k8s", "envoy"):
            shutil.copytree(K8S.with_name(part), folder / part)
    target = copy / "overlays" / hashlib.sha256(" ".join(components).encode()).hexdigest()
    target.mkdir(exist_ok=True)
    listed = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base"],
        "components": [f"../../components/{name}" for name in components],
    }
    (target / "kustomization.yaml").write_text(yaml.safe_dump(listed))
    return _loaded(target)


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    """The resources of these kinds."""
    return [one for one in resources if one["kind"] in kinds]


def scaling_queries() -> Iterator[tuple[str, str]]:
    """What KEDA asks Prometheus, and for whose sake."""
    for path in sorted((K8S / "components" / "keda").rglob("*.yaml")):
        one = yaml.safe_load(path.read_text())
        if one["kind"] == "ScaledObject":
            for trigger in one["spec"]["triggers"]:
                if trigger["type"] == "prometheus":
                    yield f"keda: {one['metadata']['name']}", trigger["metadata"]["query"]


def named(resources: list[Resource], kind: str, name: str) -> Resource:
    """The one resource of this kind and name."""
    (found,) = [one for one in of_kind(resources, kind) if one["metadata"]["name"] == name]
    return found


def pods(resources: list[Resource]) -> list[tuple[str, Resource]]:
    """Each workload's name and its pod's spec."""
    workloads = of_kind(resources, "Deployment", "StatefulSet", "Job")
    return [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in workloads]


def ours(resources: list[Resource]) -> list[tuple[str, Resource, Resource]]:
    """Each service of the gateway: its name, its pod's spec and its container."""
    found = [
        (name, pod, one) for name, pod in pods(resources) for one in pod["containers"] if one["name"] == "aigateway"
    ]
    assert found
    return found


def variables(container: Resource) -> dict[str, str]:
    """A container's environment."""
    return {one["name"]: one["value"] for one in container.get("env", ())}
