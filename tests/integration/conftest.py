"""The whole gateway in real processes, once per topology, with a provider stand-in behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.gateway import Gateway, environment
from support.replay import Answer, Upstream
from support.whole import KEY, Whole

TOPOLOGIES = ("embedded", "split", "edge,router")


@pytest.fixture(scope="session", params=TOPOLOGIES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with Upstream(Answer.of({})) as upstream:
        env = environment(upstream.url, GATEWAY_API_KEY=KEY)
        with Gateway(request.param, tmp_path_factory.mktemp("gateway"), env) as gateway:
            yield Whole(gateway, upstream)


@pytest.fixture
def whole(running: Whole) -> Whole:
    running.upstream.reset(Answer.of({}))
    return running


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An embedded gateway without any key or provider, as `make run` starts it."""
    with Gateway("embedded", tmp_path_factory.mktemp("sandbox"), environment(None)) as gateway:
        yield gateway
