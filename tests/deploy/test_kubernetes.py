"""The manifests build in every combination, are valid for each Kubernetes we support, and say what the code does.

Kustomize is real, and so are the schemas; there is no cluster. That a kubelet does what they ask for, and that the
network holds to the policies, is not tested here.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import yaml
from aigateway.v1 import gateway_service_pb2, provider_service_pb2, usage_service_pb2
from aigateway_common.event_stream import EventStream
from aigateway_common.jetstream import REFUSED_BYTES, STREAM_BYTES
from aigateway_common.serving import CONNECTION_AGE_GRACE, RESOLUTION_PAUSE
from aigateway_common.settings import load
from aigateway_edge.settings import EdgeSettings
from aigateway_launcher.config import Config, parse
from aigateway_launcher.environment import described
from aigateway_launcher.groups import parse_group
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_providers.registry import PROVIDERS as KINDS
from support.certificates import Authority, tls_environment
from support.kustomize import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    PROVIDERS,
    Resource,
    combination,
    named,
    of_kind,
    ours,
    overlay,
    pods,
    variables,
)
from support.manifests import FRONTS, VERSIONS, containers, holds_together, ordered, selects, valid

GRPC = {
    "router": gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name,
    "usage": usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name,
    "provider": provider_service_pb2.DESCRIPTOR.services_by_name["ProviderService"].full_name,
}
NUMBERS = count()
KEY = "a-key-for-tests-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kustomize")


@pytest.fixture(scope="module")
def everything(folder: Path) -> list[Resource]:
    """All components that go together, whose pods are then all there are; plaintext, as without `mtls`."""
    return combination(folder, *together())


@pytest.fixture(scope="module")
def encrypted(folder: Path) -> list[Resource]:
    """The same with mutual TLS."""
    return combination(folder, *(name for name in together("mtls", "envoy-mtls") if name != "envoy"))


def together(*more: str) -> list[str]:
    apart = {"edge-with-router", *FRONTS[1:], "keda", "provider-ollama-external", "mtls", "without-network-policies"}
    return ordered([*more, *(name for name in COMPONENTS if "/" not in name and name not in apart)])


# It builds, and it is valid.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_valid_on_the_oldest_and_the_newest_kubernetes(name: str, version: str) -> None:
    valid(overlay(name), version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_is_valid_by_itself(folder: Path, component: str, version: str) -> None:
    valid(combination(folder, component), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_components_together_are_valid(everything: list[Resource], version: str) -> None:
    valid(everything, version)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_reference_leads_somewhere(name: str) -> None:
    holds_together(overlay(name))


def test_every_reference_of_all_components_leads_somewhere(everything: list[Resource], folder: Path) -> None:
    holds_together(everything)
    holds_together(combination(folder, "provider-ollama-external", "edge-with-router"))


# It says what the code does.


def plan(container: Resource, folder: Path) -> Plan:
    """What the launcher makes of a container's environment and arguments, with files where Secrets would be."""
    values = variables(container) | {"AIGATEWAY_CONFIG": str(K8S / "base" / "aigateway.yaml")}
    for name in [name for name in values if name.endswith("_FILE")]:
        path = folder / name
        postgres = "postgresql://ledger@db.example.com/ledger"
        path.write_text(postgres if name.startswith("DATABASE") else f"{name}-{KEY}")
        values[name] = str(path)
    if "AIGATEWAY_TLS_CERT" in values:
        values |= tls_environment(Authority().mounted(folder / f"tls-{next(NUMBERS)}", "any"))
    arguments = container["args"]
    options = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    over = Overrides(host=options.pop("--host", None), port=int(options.pop("--port", 0)) or None)
    assert options == {}
    return make(over, values, ollama_found=lambda: False)


def every_service(everything: list[Resource], folder: Path) -> list[tuple[str, Resource, Resource]]:
    more = combination(folder, "provider-ollama-external", "provider-openai", "edge-with-router")
    return [*ours(everything), *ours(overlay("prod")), *ours(overlay("dev")), *ours(more)]


def test_the_launcher_takes_every_command_and_environment(everything: list[Resource], folder: Path) -> None:
    for name, _, container in every_service(everything, folder):
        made = plan(container, folder)
        serve, services = container["args"][:2]
        assert serve == "serve"
        group = parse_group(services, made)
        assert name in {
            *services.split(","),
            services.replace(":", "-"),
            *(f"provider-{one}" for one in group.providers),
        }
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == made.metrics_port
        assert ports.get("http") == (made.port if group.edge else None)
        assert ports.get("grpc") == (made.grpc_port if group.names != ("edge",) else None)
        assert made.grpc_host == "0.0.0.0"


def test_every_variable_is_one_that_the_code_reads(everything: list[Resource], folder: Path) -> None:
    for name, _, container in every_service(everything, folder):
        for variable in variables(container):
            assert variable.removesuffix("_FILE") in described(), f"{name}: {variable}"


def test_traces_and_logs_go_to_the_collector_and_metrics_to_prometheus_alone(
    everything: list[Resource], folder: Path
) -> None:
    for resources in (everything, overlay("prod")):
        (collector,) = (one for one in of_kind(resources, "Service") if one["metadata"]["name"] == "otel-collector")
        (port,) = (port["port"] for port in collector["spec"]["ports"] if port["name"] == "otlp")
        assert of_kind(resources, "PodMonitor")
        for name, _, container in ours(resources):
            telemetry = plan(container, folder).telemetry
            assert telemetry.endpoint == f"http://otel-collector:{port}", name
            assert (telemetry.sample_ratio, telemetry.logs, telemetry.metrics) == (0.1, True, False), name


def test_the_shared_settings_have_no_mistakes() -> None:
    _, problems = parse(load(K8S / "base" / "aigateway.yaml", {}))
    assert problems == []


@pytest.mark.parametrize("component", PROVIDERS)
def test_a_provider_is_one_line(folder: Path, component: str) -> None:
    kind = component.removeprefix("provider-").removesuffix("-gpu").removesuffix("-external")
    without, with_it = combination(folder), combination(folder, component)
    made = plan(container_of(with_it, "router"), folder)
    assert made.targets.providers == {kind: f"dns:///provider-{kind}:50051"}
    assert variables(container_of(without, "router"))["AIGATEWAY_PROVIDER_TARGETS"] == ""
    service = named(with_it, "Service", f"provider-{kind}")
    assert service["spec"]["ports"][0]["port"] == 50051
    assert parse_group(f"provider:{kind}", plan(container_of(with_it, f"provider-{kind}"), folder)).providers == (kind,)


def test_the_router_knows_every_provider_that_is_there(everything: list[Resource], folder: Path) -> None:
    for resources in (everything, overlay("dev"), overlay("prod")):
        there = {name.removeprefix("provider-") for name, _, _ in ours(resources) if name.startswith("provider-")}
        assert set(plan(container_of(resources, "router"), folder).targets.providers) == there


def test_every_kind_of_provider_has_its_component() -> None:
    have = {name.removeprefix("provider-").partition("-")[0] for name in PROVIDERS}
    assert have == set(KINDS)


def test_targets_are_headless_services_that_channels_look_up(everything: list[Resource], folder: Path) -> None:
    targets: set[str] = set()
    for _, _, container in every_service(everything, folder):
        made = plan(container, folder).targets
        targets |= {target for target in (made.router, made.usage, *made.providers.values()) if target}
    for target in targets:
        host, port = target.removeprefix("dns:///").split(":")
        assert target.startswith("dns:///")
        service = named(everything, "Service", host)
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["ports"][0]["port"] == int(port)


def container_of(resources: list[Resource], name: str) -> Resource:
    (found,) = [container for workload, _, container in ours(resources) if workload == name]
    return found


# It holds its promises.


def test_probes_are_native_and_ask_for_our_own_health_alone(everything: list[Resource], folder: Path) -> None:
    for name, _, container in every_service(everything, folder):
        startup, ready, live = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
        services = container["args"][1]
        if services == "edge":
            assert (startup["httpGet"]["path"], live["httpGet"]["path"]) == ("/live", "/live")
            assert ready["httpGet"] == {"path": "/ready", "port": "http"}
            continue
        part = "router" if "router" in services else services.partition(":")[0]
        assert startup["grpc"] == {"port": 50051, "service": GRPC[part]}
        assert live["grpc"] == {"port": 50051}, "alive is the server as a whole"
        if "edge" in services:
            assert ready["httpGet"] == {"path": "/ready", "port": "http"}
        else:
            assert ready["grpc"] == {"port": 50051, "service": GRPC[part]}, name
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_with_mutual_tls_every_grpc_port_and_channel_has_it_and_a_certificate_of_its_own(
    encrypted: list[Resource], folder: Path
) -> None:
    certificates = {one["spec"]["secretName"]: one["spec"] for one in of_kind(encrypted, "Certificate")}
    both = combination(folder, "provider-openai", "mtls", "edge-with-router")
    for name, pod, container in [*ours(encrypted), *ours(both)]:
        assert plan(container, folder).tls is not None, name
        (mount,) = [one for one in container["volumeMounts"] if one["name"] == "tls"]
        paths = {variables(container)[f"AIGATEWAY_TLS_{part}"] for part in ("CERT", "KEY", "CA")}
        assert paths == {f"{mount['mountPath']}/{file}" for file in ("tls.crt", "tls.key", "ca.crt")}
        assert "subPath" not in mount
        (volume,) = [one for one in pod["volumes"] if one["name"] == "tls"]
        assert volume["secret"] == {"secretName": f"{name}-tls", "defaultMode": 0o440}
        certificate = certificates[f"{name}-tls"]
        assert name in certificate["dnsNames"]
        assert {"server auth", "client auth"} <= set(certificate["usages"])
        assert named(encrypted, "Issuer", certificate["issuerRef"]["name"])
    assert {f"provider-{kind}-tls" for kind in KINDS} <= set(certificates)


def test_with_mutual_tls_ledger_and_adapters_take_calls_of_the_router_alone(
    encrypted: list[Resource], folder: Path
) -> None:
    both = combination(folder, "provider-openai", "mtls", "edge-with-router")
    for name, _, container in [*ours(encrypted), *ours(both)]:
        tls = plan(container, folder).tls
        assert tls is not None
        wanted = () if name in {"edge", "router"} else ("router", "usage") if name == "usage" else ("router",)
        assert tls.callers == wanted, name
        for caller in wanted:
            assert caller in named(encrypted, "Certificate", caller)["spec"]["dnsNames"]


def test_with_mutual_tls_targets_are_names_of_the_certificates(encrypted: list[Resource], folder: Path) -> None:
    for _, _, container in ours(encrypted):
        targets = plan(container, folder).targets
        for target in filter(None, (targets.router, targets.usage, *targets.providers.values())):
            host = target.removeprefix("dns:///").partition(":")[0]
            assert host in named(encrypted, "Certificate", host)["spec"]["dnsNames"]
            assert "appProtocol" not in named(encrypted, "Service", host)["spec"]["ports"][0]


def test_with_mutual_tls_probes_need_no_certificate(encrypted: list[Resource], folder: Path) -> None:
    both = combination(folder, "provider-openai", "mtls", "edge-with-router")
    for name, _, container in [*ours(encrypted), *ours(both)]:
        startup, ready, live = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
        services = container["args"][1]
        assert not any("grpc" in probe for probe in (startup, ready, live)), name
        door = "http" if services == "edge" else "metrics"
        assert startup["httpGet"] == {"path": "/live" if services == "edge" else "/ready", "port": door}
        assert live["httpGet"] == {"path": "/live", "port": door}
        assert ready["httpGet"] == {"path": "/ready", "port": "http" if "edge" in services else "metrics"}
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_a_pod_has_time_to_leave_and_to_drain(everything: list[Resource], folder: Path) -> None:
    for _, pod, container in every_service(everything, folder):
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = plan(container, folder).drain_seconds
        assert pod["terminationGracePeriodSeconds"] >= sleep + drain + 10


def test_a_call_outlives_the_age_of_its_connection() -> None:
    assert EdgeSettings().max_timeout < CONNECTION_AGE_GRACE


def test_connections_age_so_that_new_pods_get_calls() -> None:
    config, _ = parse(load(K8S / "base" / "aigateway.yaml", {}))
    assert config.server.max_connection_age <= 600 < Config().server.max_connection_age


def test_pods_are_restricted(everything: list[Resource]) -> None:
    for resources in (everything, overlay("dev"), overlay("prod")):
        for name, pod in pods(resources):
            context = pod["securityContext"]
            assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"}), name
            assert context["runAsUser"] > 0
            assert pod["automountServiceAccountToken"] is False, name
            assert pod["enableServiceLinks"] is False, name
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
            for container in containers(pod):
                inner = container["securityContext"]
                assert inner["allowPrivilegeEscalation"] is False
                assert inner["readOnlyRootFilesystem"] is True
                assert inner["capabilities"] == {"drop": ["ALL"]}
                assert set(container["resources"]) == {"requests", "limits"}
            assert not [volume for volume in pod.get("volumes", ()) if "hostPath" in volume]
    for name in OVERLAYS:
        (namespace,) = of_kind(overlay(name), "Namespace")
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_each_service_has_an_account_of_its_own_that_may_do_nothing(everything: list[Resource]) -> None:
    accounts = [pod["serviceAccountName"] for _, pod, _ in ours(everything)]
    assert len(accounts) == len(set(accounts))
    assert all(one["automountServiceAccountToken"] is False for one in of_kind(everything, "ServiceAccount"))
    assert of_kind(everything, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") == []


def test_an_adapter_mounts_its_own_key_as_a_file_and_no_other(everything: list[Resource]) -> None:
    for name, pod, container in ours(everything):
        secrets = {v["secret"]["secretName"]: v["secret"] for v in pod["volumes"] if "secret" in v}
        if not name.startswith("provider-"):
            continue
        kind = KINDS[name.removeprefix("provider-")]
        assert set(secrets) == ({name} if kind.key_env else set())
        wanted = {f"{kind.key_env[0]}_FILE"} if kind.key_env else set()
        files = {variable for variable in variables(container) if variable.endswith("_FILE")}
        assert files == wanted
        for secret in secrets.values():
            assert [item["key"] for item in secret["items"]] == [kind.key_env[0]]
            assert secret["defaultMode"] == 0o440


def test_no_secret_is_in_the_manifests(everything: list[Resource]) -> None:
    assert of_kind(everything, "Secret") == []
    for _, pod in pods(everything):
        assert not [one for c in containers(pod) for one in c.get("env", ()) if "valueFrom" in one or "envFrom" in c]


def test_only_the_operator_s_key_stays_with_the_router(everything: list[Resource]) -> None:
    holders = {name for name, _, container in ours(everything) if "ADMIN_API_KEY_FILE" in variables(container)}
    assert holders == {"router"}


def test_nobody_is_reached_who_need_not_be(everything: list[Resource]) -> None:
    deny = named(everything, "NetworkPolicy", "default-deny")["spec"]
    assert (deny["podSelector"], set(deny["policyTypes"])) == ({}, {"Ingress", "Egress"})
    assert {port["port"] for rule in deny["egress"] for port in rule["ports"]} == {53}
    assert "ingress" not in deny
    internet = {
        one["metadata"]["name"]
        for one in of_kind(everything, "NetworkPolicy")
        for rule in one["spec"].get("egress", ())
        for to in rule.get("to", ())
        if "ipBlock" in to
    }
    paid = {f"provider-{kind}" for kind, row in KINDS.items() if row.key_env}
    assert internet == paid | {"ollama-pull", "tokens", "webhooks"}
    for kind in KINDS:
        spec = named(everything, "NetworkPolicy", f"provider-{kind}")["spec"]
        assert spec["podSelector"]["matchLabels"]["aigateway/provider"] == kind
        (expression,) = spec["ingress"][0]["from"][0]["podSelector"]["matchExpressions"]
        assert (expression["values"], spec["ingress"][0]["ports"][0]["port"]) == (["router"], 50051)


def test_policies_are_an_option_that_can_be_left_out(everything: list[Resource], folder: Path) -> None:
    """And nothing else goes with them."""
    without = combination(folder, *together("without-network-policies"))
    assert without == [one for one in everything if one["kind"] != "NetworkPolicy"] != everything


def test_the_internet_has_no_inside(everything: list[Resource]) -> None:
    text = yaml.safe_dump(of_kind(everything, "NetworkPolicy"))
    blocks = [
        to["ipBlock"]
        for one in of_kind(everything, "NetworkPolicy")
        for rule in one["spec"].get("egress", ())
        for to in rule.get("to", ())
        if "ipBlock" in to
    ]
    assert "0.0.0.0/0" in text
    for block in blocks:
        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(block["except"])


def test_a_pod_that_leaves_goes_on_until_its_clients_have_left_it(everything: list[Resource]) -> None:
    """Clients ask for a name again only when a connection has ended, which its age sees to."""
    config, _ = parse(load(K8S / "base" / "aigateway.yaml", {}))
    drawn = 1.1  # gRPC adds up to a tenth to an age (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md)
    kept_by_dns = 5  # what CoreDNS says of names of a cluster (https://coredns.io/plugins/kubernetes, `ttl`)
    latest = config.server.max_connection_age * drawn + RESOLUTION_PAUSE + kept_by_dns
    for name, _, container in ours(everything):
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= latest, name


def test_a_rollout_never_has_fewer_pods(folder: Path) -> None:
    for one in of_kind(combination(folder, "provider-openai", "postgres"), "Deployment"):
        strategy = one["spec"]["strategy"]
        assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, one["metadata"]["name"]
        assert one["spec"]["replicas"] >= 2


def test_a_disruption_takes_one_pod_at_a_time(everything: list[Resource]) -> None:
    for name, pod, _ in ours(everything):
        assert named(everything, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        spread = {one["topologyKey"] for one in pod["topologySpreadConstraints"]}
        assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(one["labelSelector"]["matchLabels"] for one in pod["topologySpreadConstraints"])


def test_the_outbox_outlives_its_pod(folder: Path) -> None:
    router = named(combination(folder), "StatefulSet", "router")["spec"]
    (claim,) = router["volumeClaimTemplates"]
    (container,) = router["template"]["spec"]["containers"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == claim["metadata"]["name"]]
    assert plan(container, folder).router.outbox_dir.is_relative_to(mount["mountPath"])
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert size > Config().usage.outbox_max_bytes
    assert router["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_a_ledger_in_a_file_belongs_to_one_pod(folder: Path) -> None:
    usage = named(combination(folder), "Deployment", "usage")["spec"]
    assert (usage["replicas"], usage["strategy"]) == (1, {"type": "Recreate"})
    shared = combination(folder, "postgres")
    assert of_kind(shared, "PersistentVolumeClaim") == []
    made = plan(container_of(shared, "usage"), folder)
    assert made.usage.database_url.startswith("postgresql://")


def test_with_nats_router_and_ledger_share_one_server_whose_files_stay(folder: Path) -> None:
    built = combination(folder, "postgres", "nats")
    server = named(built, "StatefulSet", "nats")["spec"]
    for name in ("router", "usage"):
        made = plan(container_of(built, name), folder)
        assert made.usage.events == made.router.events == EventStream("nats://nats:4222")
        egress = named(built, "NetworkPolicy", f"{name}-nats")["spec"]
        assert egress["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == name
        assert egress["egress"][0]["to"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "nats"}}}]
    assert "NATS_URL" not in variables(container_of(built, "edge"))
    (claim,), (container,) = server["volumeClaimTemplates"], containers(server["template"]["spec"])
    (mount,) = container["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == (claim["metadata"]["name"], "/data")
    assert container["command"][container["command"].index("--store_dir") + 1] == "/data"
    room = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert room >= 2 * (STREAM_BYTES + REFUSED_BYTES)
    assert server["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_ollama_is_beside_its_adapter_on_a_gpu(folder: Path) -> None:
    built = combination(folder, "provider-ollama-gpu")
    deployment = named(built, "Deployment", "provider-ollama")["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    pod = deployment["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert (sidecar["restartPolicy"], sidecar["resources"]["limits"]["nvidia.com/gpu"]) == ("Always", "1")
    assert "startupProbe" in sidecar
    (job,) = of_kind(built, "Job")
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    pull = job["spec"]["template"]["spec"]
    assert claims == [v["persistentVolumeClaim"]["claimName"] for v in pull["volumes"] if "persistentVolumeClaim" in v]
    assert (pull["nodeSelector"], pull["tolerations"]) == (pod["nodeSelector"], pod["tolerations"])
    assert plan(container_of(built, "provider-ollama"), folder).providers["ollama"].base_url == "http://localhost:11434"


def test_edge_and_router_share_a_pod_when_asked(folder: Path) -> None:
    built = combination(folder, "provider-openai", "hpa", "edge-with-router")
    assert {name for name, _, _ in ours(built)} == {"router", "usage", "provider-openai"}
    assert [one["metadata"]["name"] for one in of_kind(built, "HorizontalPodAutoscaler")] == ["router"]
    assert parse_group(container_of(built, "router")["args"][1], plan(container_of(built, "router"), folder)).edge
    assert selects(named(built, "Service", "edge"), named(built, "StatefulSet", "router"))
