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
        folder = tmp_path_factory.mktemp("gateway")
        # What fails here fails for good: each call is one request to the stand-in. `test_policies` has the retries.
        config = folder / "aigateway.yaml"
        config.write_text("retries: {attempts: 1}\nbreaker: {enabled: false}\n")
        with Gateway(request.param, folder, env, ("--config", str(config))) as gateway:
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
