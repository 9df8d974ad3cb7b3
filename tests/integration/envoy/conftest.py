"""One gateway of several processes with the real Envoy before it, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.certificates import Mounted
from support.collector import Receiver, collector
from support.envoy import Envoy, program
from support.fleet import Fleet
from support.replay import Answer, Upstream


@pytest.fixture(scope="session")
def spans() -> Iterator[tuple[Receiver, str]]:
    """The collector of all traces, and its address."""
    with collector() as found:
        yield found


@pytest.fixture(scope="session")
def provider_stand_in() -> Iterator[Upstream]:
    with Upstream(Answer.of({})) as upstream:
        yield upstream


@pytest.fixture
def upstream(provider_stand_in: Upstream) -> Upstream:
    provider_stand_in.reset(Answer.of({}))
    return provider_stand_in


@pytest.fixture(scope="session")
def fleet(
    spans: tuple[Receiver, str], provider_stand_in: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    program()  # skips before anything is started
    with Fleet(tmp_path_factory.mktemp("fleet"), provider_stand_in.url, spans[1]) as running:
        yield running


@pytest.fixture(scope="session")
def plain(fleet: Fleet, spans: tuple[Receiver, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """Envoy without TLS; it makes spans."""
    with fleet.front(tmp_path_factory.mktemp("plain"), OTLP=f"http://{spans[1]}") as envoy:
        yield envoy


@pytest.fixture(scope="session")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Mounted:
    return Mounted(tmp_path_factory.mktemp("tls") / "mounted")


@pytest.fixture(scope="session")
def secured(fleet: Fleet, mounted: Mounted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """Envoy with TLS."""
    paths = {"TLS_CERTIFICATE": str(mounted.certificate), "TLS_KEY": str(mounted.key)}
    with fleet.front(tmp_path_factory.mktemp("secured"), **paths) as envoy:
        yield envoy
