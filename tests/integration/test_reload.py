"""A changed configuration file is taken by a running gateway; one with mistakes is not."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from support.gateway import Gateway, environment

GOOD = "providers: {sandbox: {}}\naliases: {one: sandbox/echo}\n"


def status(gateway: Gateway, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return httpx.post(f"{gateway.http}/v1/chat/completions", json=body).status_code


def wait_status(gateway: Gateway, model: str, wanted: int) -> None:
    """Asks until the answer is `wanted`: the file is watched beside the calls."""
    end = time.monotonic() + 15
    while (got := status(gateway, model)) != wanted:
        assert time.monotonic() < end, got
        time.sleep(0.05)


@pytest.mark.parametrize("topology", ["embedded", "split"])
def test_aliases_change_while_it_runs_and_mistakes_change_nothing(tmp_path: Path, topology: str) -> None:
    file = tmp_path / "aigateway.yaml"
    file.write_text(GOOD)
    with Gateway(topology, tmp_path, environment(None)) as gateway:
        assert (status(gateway, "one"), status(gateway, "two")) == (200, 404)
        file.write_text(GOOD.replace("one:", "two:"))
        wait_status(gateway, "two", 200)
        assert status(gateway, "one") == 404
        file.write_text("aliases: {three: nobody/x}\nnonsense: 1\n")
        text = gateway.running[-1].wait_text("configuration not taken")
        assert "`nonsense` is not a setting" in text
        assert (status(gateway, "two"), status(gateway, "three")) == (200, 404)
        file.write_text(GOOD + "server: {drain_seconds: 9}\n")
        wait_status(gateway, "one", 200)
        assert '"needs_restart":["drain_seconds"]' in gateway.running[-1].wait_text('needs_restart":["drain')


def test_aliases_in_a_circle_are_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "aigateway.yaml").write_text("providers: {sandbox: {}}\naliases: {a: b, b: a}\n")
    with pytest.raises(AssertionError, match="aliases: ") as caught, Gateway("embedded", tmp_path, environment(None)):
        pass
    assert "Traceback" not in str(caught.value)
