"""What every set of built manifests has to be: valid for each Kubernetes that we support, and whole in itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from support import custom_schemas, kubernetes_schemas
from support.kustomize import Resource, named, of_kind, pods

OLDEST = "1.30"
"""The first with `preStop.sleep` (https://www.kubernetes.dev/resources/keps/3960/)."""
VERSIONS = (OLDEST, kubernetes_schemas.version(kubernetes_schemas.NEWEST))
FRONTS = ("envoy", "envoy-tls", "envoy-mtls")
EXCLUSIVE = (
    {"hpa", "keda"},
    *(set(two) for two in combinations(FRONTS, 2)),
    *({front, "mtls"} for front in FRONTS[:2]),
)
LAST = ("otel", "hpa", "keda", "mtls", "edge-with-router", "without-network-policies")
"""Components that change what others bring come after them."""


def ordered(components: Iterable[str]) -> list[str]:
    """`components` as they have to be listed."""
    return sorted(components, key=lambda name: LAST.index(name) if name in LAST else -1)


def valid(resources: list[Resource], version: str) -> None:
    """Assert that a cluster of `version` takes each of them, strictly."""
    for one in resources:
        foreign = one["apiVersion"].partition("/")[0] in custom_schemas.GROUPS
        wrong = custom_schemas.problems(one) if foreign else kubernetes_schemas.problems(one, version)
        assert wrong == [], f"{one['kind']} {one['metadata']['name']} on {version}"


def go_together(resources: list[Resource]) -> None:
    """Assert that nothing is there twice, and that nobody but a scaler says how many there are of what it scales."""
    ids = [(one["kind"], one["metadata"]["name"]) for one in resources]
    assert len(ids) == len(set(ids))
    for scaler in of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in named(resources, target["kind"], target["name"])["spec"]


def holds_together(resources: list[Resource]) -> None:
    """Assert that what one resource names is there: accounts, files, volumes, pods and their ports."""

    def names(kind: str) -> set[str]:
        return {one["metadata"]["name"] for one in of_kind(resources, kind)}

    for name, pod in pods(resources):
        assert pod.get("serviceAccountName", "default") in names("ServiceAccount") | {"default"}, name
        for volume in pod.get("volumes", ()):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in names("ConfigMap"), name
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in names("PersistentVolumeClaim"), name
        mounted = {m["name"] for c in containers(pod) for m in c.get("volumeMounts", ())}
        assert {v["name"] for v in pod.get("volumes", ())} <= mounted, name
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in workloads(resources)]
    for one in of_kind(resources, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = one["spec"]
        selector = spec["podSelector"] if one["kind"] == "NetworkPolicy" else spec["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= given.items() for given in labels), one["metadata"]["name"]
    for one in of_kind(resources, "Service"):
        selected = [w for w in workloads(resources) if selects(one, w)]
        assert len(selected) == 1, one["metadata"]["name"]
        ports = {p["name"] for c in containers(selected[0]["spec"]["template"]["spec"]) for p in c.get("ports", ())}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def workloads(resources: list[Resource]) -> list[Resource]:
    return of_kind(resources, "Deployment", "StatefulSet", "Job")


def selects(service: Resource, workload: Resource) -> bool:
    given = workload["spec"]["template"]["metadata"]["labels"]
    return bool(service["spec"]["selector"].items() <= given.items())


def containers(pod: Resource) -> list[Resource]:
    return [*pod.get("initContainers", ()), *pod["containers"]]
