"""Autoscalers: each scales something that is there, slowly enough for streams, by what its own part has to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_providers.registry import PROVIDERS as KINDS
from support.kustomize import COMPONENTS, Resource, combination, named, of_kind

SCALERS = ("hpa", "keda")
PAID = [kind for kind, row in KINDS.items() if row.key_env]
SLOWLY = {"stabilizationWindowSeconds": 300, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}


@pytest.fixture(scope="module", params=SCALERS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Resource]:
    """Every provider on the internet with its scaler, and edge and router with theirs."""
    components = [f"provider-{kind}" for kind in PAID] + [f"{request.param}/provider-{kind}" for kind in PAID]
    return combination(tmp_path_factory.mktemp("scaling"), *components, request.param)


def test_each_provider_that_can_have_more_adapters_has_both_scalers() -> None:
    wanted = {f"{scaler}/provider-{kind}" for scaler in SCALERS for kind in PAID}
    assert {name for name in COMPONENTS if name.startswith(tuple(f"{one}/" for one in SCALERS))} == wanted


def test_a_scaler_alone_says_how_many_there_are_of_what_it_scales(built: list[Resource]) -> None:
    scalers = of_kind(built, "HorizontalPodAutoscaler", "ScaledObject")
    targets = {one["metadata"]["name"]: one["spec"]["scaleTargetRef"] for one in scalers}
    assert set(targets) == {"edge", "router", *(f"provider-{kind}" for kind in PAID)}
    for name, target in targets.items():
        assert target["name"] == name
        assert "replicas" not in named(built, target["kind"], name)["spec"]


def test_a_scaler_keeps_two_pods_and_takes_them_away_slowly(built: list[Resource]) -> None:
    for one in of_kind(built, "HorizontalPodAutoscaler"):
        spec = one["spec"]
        assert (spec["minReplicas"], spec["behavior"]["scaleDown"]) == (2, SLOWLY)
        assert spec["maxReplicas"] > spec["minReplicas"]
    for one in of_kind(built, "ScaledObject"):
        spec = one["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert (spec["minReplicaCount"], behavior["scaleDown"]) == (2, SLOWLY)
        assert spec["maxReplicaCount"] > spec["minReplicaCount"]


def test_keda_counts_the_calls_of_that_provider_alone_those_that_wait_included(tmp_path: Path) -> None:
    for kind in PAID:
        built = combination(tmp_path, f"provider-{kind}", f"keda/provider-{kind}")
        triggers = {
            one["type"]: one["metadata"] for one in named(built, "ScaledObject", f"provider-{kind}")["spec"]["triggers"]
        }
        assert set(triggers) == {"prometheus", "cpu"}
        asked = triggers["prometheus"]["query"]
        assert asked.count("{") == asked.count(f'{{provider="{kind}"}}') == 2
        assert "aigateway_attempts_in_flight" in asked
        assert "aigateway_attempts_queued" in asked
