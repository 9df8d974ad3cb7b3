"""Keys in files, mounted as Kubernetes mounts a Secret, change under a gateway that runs; it needs no restart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.certificates import Secret
from support.gateway import Gateway, environment
from support.replay import Answer, Sent, Upstream

OLD, NEW = "old-provider-key-1", "new-provider-key-2"
BODY = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
TOPOLOGIES = ("embedded", "split", "workers", "edge,router")
IN_A_ROW = 6
"""Calls that are answered alike before all processes count as having heard of a change."""
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}


def chunk(content: str, finish: str | None = None) -> dict[str, Any]:
    return CHUNK | {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def answered(sent: Sent) -> Answer:
    if sent.method == "GET":
        return Answer.of({"object": "list", "data": []})
    if sent.json().get("stream"):
        return Answer.sse(chunk("one"), *(chunk(" more") for _ in range(8)), chunk("", "stop"), done=True, gap=0.25)
    message = {"role": "assistant", "content": "Hi"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return Answer.of({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": choices})


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(script=answered) as upstream:
        yield upstream


def key_used(gateway: Gateway, upstream: Upstream, model: str = "openai/gpt-4o") -> str:
    """The key that a call shows to the provider."""
    answer = httpx.post(f"{gateway.http}/v1/chat/completions", json=BODY | {"model": model}, timeout=30)
    assert answer.status_code == 200, answer.text
    calls = [sent for sent in upstream.requests if sent.method == "POST"]
    return calls[-1].headers["authorization"].removeprefix("Bearer ")


def wait_key(gateway: Gateway, upstream: Upstream, wanted: str, model: str = "openai/gpt-4o") -> None:
    """Calls until every process has the key: files are watched beside the calls."""
    end = time.monotonic() + 30
    run = 0
    while run < IN_A_ROW:
        assert time.monotonic() < end, "the old key is still in use"
        run = run + 1 if key_used(gateway, upstream, model) == wanted else 0


def logs_of(gateway: Gateway) -> str:
    return "".join(one.text() for one in gateway.running)


def wait_log(gateway: Gateway, text: str) -> None:
    end = time.monotonic() + 15
    while text not in logs_of(gateway):
        assert time.monotonic() < end, logs_of(gateway)
        time.sleep(0.05)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_changed_key_of_a_provider_is_used_by_the_next_calls(
    tmp_path: Path, upstream: Upstream, topology: str
) -> None:
    secret = Secret(tmp_path / "secret", {"OPENAI_API_KEY": OLD.encode()})
    env = environment(upstream.url, "openai")
    del env["OPENAI_API_KEY"]
    env["OPENAI_API_KEY_FILE"] = str(secret.folder / "OPENAI_API_KEY")
    with Gateway(topology, tmp_path, env) as gateway:
        assert key_used(gateway, upstream) == OLD
        url = f"{gateway.http}/v1/chat/completions"
        with httpx.stream("POST", url, json=BODY | {"stream": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            secret.swap({"OPENAI_API_KEY": NEW.encode() + b"\n"})
            wait_key(gateway, upstream, NEW)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        streams = [sent for sent in upstream.requests if sent.method == "POST" and sent.json().get("stream")]
        assert [sent.headers["authorization"] for sent in streams] == [f"Bearer {OLD}"]

        secret.swap({"OPENAI_API_KEY": b"\n"})
        wait_log(gateway, "key file not taken: the key in force stays")
        wait_key(gateway, upstream, NEW)
        secret.swap({"OPENAI_API_KEY": OLD.encode()})
        wait_key(gateway, upstream, OLD)
        assert '"needs_restart":[]' in logs_of(gateway)
        assert not [key for key in (OLD, NEW) if key in logs_of(gateway)]


def test_a_key_file_that_the_configuration_names_is_followed_from_when_it_is_named(
    tmp_path: Path, upstream: Upstream
) -> None:
    first = Secret(tmp_path / "first", {"key": OLD.encode()})
    second = Secret(tmp_path / "second", {"key": b"another-provider-key-3"})
    file = tmp_path / "aigateway.yaml"

    def name(secret: Secret) -> None:
        path = secret.folder / "key"
        work = {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key_file": str(path)}
        file.write_text(json.dumps({"providers": {"work": work}}))

    name(first)
    with Gateway("embedded", tmp_path, environment(None)) as gateway:
        assert key_used(gateway, upstream, "work/gpt-4o") == OLD
        first.swap({"key": NEW.encode()})
        wait_key(gateway, upstream, NEW, "work/gpt-4o")
        name(second)
        wait_key(gateway, upstream, "another-provider-key-3", "work/gpt-4o")
        second.swap({"key": OLD.encode()})
        wait_key(gateway, upstream, OLD, "work/gpt-4o")


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_changed_keys_of_callers_and_operators_are_asked_for_at_once(tmp_path: Path, topology: str) -> None:
    before = {"callers": b"caller-key-one-0123456789", "operators": b"admin-key-one-0123456789"}
    after = {"callers": b"caller-key-two-0123456789", "operators": b"admin-key-two-0123456789"}
    secret = Secret(tmp_path / "secret", before)
    env = environment(
        None,
        GATEWAY_API_KEY_FILE=str(secret.folder / "callers"),
        ADMIN_API_KEY_FILE=str(secret.folder / "operators"),
    )
    body = BODY | {"model": "sandbox/echo"}

    def statuses(gateway: Gateway) -> list[int]:
        """With the old key and the new one, of a caller and an operator; and without any."""
        result = []
        for keys in (before, after):
            caller = {"authorization": f"Bearer {keys['callers'].decode()}"}
            operator = {"authorization": f"Bearer {keys['operators'].decode()}"}
            result.append(httpx.post(f"{gateway.http}/v1/chat/completions", json=body, headers=caller).status_code)
            result.append(httpx.get(f"{gateway.http}/admin/projects", headers=operator).status_code)
        return [*result, httpx.post(f"{gateway.http}/v1/chat/completions", json=body).status_code]

    def wait(gateway: Gateway, wanted: list[int]) -> None:
        end, run = time.monotonic() + 30, 0
        while run < IN_A_ROW:
            assert time.monotonic() < end, statuses(gateway)
            run = run + 1 if statuses(gateway) == wanted else 0

    with Gateway(topology, tmp_path, env) as gateway:
        assert statuses(gateway) == [200, 200, 401, 401, 401]
        secret.swap(after)
        wait(gateway, [401, 401, 200, 200, 401])
        secret.swap({"callers": b"", "operators": b""})
        wait_log(gateway, "key file not taken: the key in force stays")
        wait(gateway, [401, 401, 200, 200, 401])
        secret.swap(after | {"callers": b"weak"})
        wait_log(gateway, "configuration not taken: it has mistakes")
        wait(gateway, [401, 401, 200, 200, 401])
