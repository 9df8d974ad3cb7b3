"""The images as a real engine builds them, and as a real runtime runs them: the Dockerfile does what it says.

One is built by `make test-slow`, all of them on two releases of Debian by `make images-test`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.containers import Container, Containers
from support.images import REVISION, VERSION, Images

KEY = "a-key-for-tests-0123456789"
PORTS = ("--grpc-port", "0", "--metrics-port", "0")
CALL = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hello from a container"}]}
LARGEST = 150_000_000
"""Bytes of an image as a registry holds it."""

pytestmark = pytest.mark.timeout(900)  # a base and an image take half a minute each on a machine that is idle


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.images)])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Images on Debian's Python 3.11 and 3.13: the oldest that is supported, and a later one than the Dockerfile's."""
    made = Images(tmp_path_factory.mktemp("images"))
    try:
        made.make_base(request.param)
        yield made
    finally:
        made.close()


@pytest.fixture
def containers(images: Images, tmp_path: Path) -> Iterator[Containers]:
    with Containers(images, tmp_path) as made:
        yield made


def confined(container: Container) -> bool:
    """Whether a service runs as the manifests want it: not as root, without any right, on what it cannot write to."""
    return (
        container.status("Uid") == ["10001"] * 4
        and container.status("Gid") == ["10001"] * 4
        and int(container.status("CapEff")[0], 16) == 0
        and container.status("NoNewPrivs") == ["1"]
        and "ro" in container.mount_options("/")
    )


def answer(http: str) -> str:
    response = httpx.post(f"{http}/v1/chat/completions", json=CALL, headers={"authorization": f"Bearer {KEY}"})
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


@pytest.mark.slow
def test_the_image_of_all_services_answers_a_call_and_ends_in_order(images: Images, containers: Containers) -> None:
    image = images.build("all")
    service = containers.start(image, "up", "--port", "0", *PORTS, data=True, GATEWAY_API_KEY=KEY)
    assert httpx.get(f"{service.running.http}/ready").json() == {"status": "ok"}
    assert answer(service.running.http) == "Hello from a container"
    assert confined(service)
    assert service.running.stop() == 0, service.running.text()  # by SIGTERM, as process 1, which ends by no default
    described(images, image, "all")


@pytest.mark.images
def test_images_of_the_services_answer_a_call_together(images: Images, containers: Containers) -> None:
    built = {service: images.build(service) for service in ("usage", "provider", "router", "edge")}
    usage = containers.start(built["usage"], "serve", "usage", *PORTS, data=True)
    provider = containers.start(built["provider"], "serve", "provider:sandbox", *PORTS)
    router = containers.start(
        *(built["router"], "serve", "router", *PORTS),
        data=True,
        GATEWAY_API_KEY=KEY,
        AIGATEWAY_PROVIDER_TARGETS=f"sandbox={provider.running.grpc('provider:sandbox')}",
        AIGATEWAY_USAGE_TARGET=usage.running.grpc("usage"),
    )
    edge = containers.start(
        *(built["edge"], "serve", "edge", "--port", "0", *PORTS),
        GATEWAY_API_KEY=KEY,
        AIGATEWAY_ROUTER_TARGET=router.running.grpc("router"),
    )
    assert answer(edge.running.http) == "Hello from a container"
    for service in (edge, router, provider, usage):
        assert confined(service)
        assert service.running.stop() == 0, service.running.text()
    for name, image in built.items():
        described(images, image, name)


def described(images: Images, image: str, service: str) -> None:
    """`image` says what it is, and is no larger than it may be."""
    labels = images.config(image)["Labels"]
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.title"] == f"aigateway-{service}"
    assert labels[f"{prefix}.licenses"] == "Apache-2.0"
    assert (labels[f"{prefix}.version"], labels[f"{prefix}.revision"]) == (VERSION, REVISION)
    size = images.size(image)
    print(f"{service}: {size.packed / 1e6:.0f} MB packed, {size.whole / 1e6:.0f} unpacked, {size.own / 1e6:.0f} ours")
    assert size.packed < LARGEST
