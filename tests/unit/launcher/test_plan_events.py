"""Where usage events wait: from file or environment, checked, and kept from whom it is none of their business."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_common.event_stream import EventStream
from aigateway_common.settings import ConfigurationError
from aigateway_launcher import children
from aigateway_launcher.groups import Group, everything, parts
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_launcher.reload import pending
from aigateway_launcher.topology import Process
from aigateway_usage.server import UsageComponent

MUST = "must be nats://host:4222 or tls://host:4222"


def plan(tmp_path: Path, text: str = "", **environment: str) -> Plan:
    file = tmp_path / "aigateway.yaml"
    file.write_text(text)
    return make(Overrides(file), environment, ollama_found=lambda: False)


def problems(tmp_path: Path, text: str = "", **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        plan(tmp_path, text, **environment)
    return [str(problem) for problem in caught.value.problems]


def test_without_a_url_events_go_by_grpc(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert (made.router.events, made.usage.events) == (None, None)


def test_router_and_ledger_are_told_the_same(tmp_path: Path) -> None:
    made = plan(tmp_path, NATS_URL="nats://n:4222")
    assert made.router.events == made.usage.events == EventStream("nats://n:4222")


def test_the_file_wins_over_the_environment(tmp_path: Path) -> None:
    made = plan(tmp_path, "usage: {nats_url: 'tls://n', nats_replicas: 3}\n", NATS_URL="nats://other")
    assert made.usage.events == EventStream("tls://n", replicas=3)


def test_a_file_may_hold_the_url(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("nats://me:word@n:4222\n")
    assert plan(tmp_path, NATS_URL_FILE=str(tmp_path / "url")).usage.events == EventStream("nats://me:word@n:4222")


def test_without_a_ledger_there_are_no_events(tmp_path: Path) -> None:
    made = plan(tmp_path, "usage: {enabled: false}\n", NATS_URL="nats://n")
    assert (made.router.events, made.usage.events) == (None, None)


def test_a_url_of_something_else_is_refused_where_it_stands_and_not_repeated(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, NATS_URL="n:4222/secret")
    assert problem.startswith(f"NATS_URL: {MUST}")
    (other,) = problems(tmp_path, "usage:\n  nats_url: redis://secret\n")
    assert other.startswith(f"aigateway.yaml:2: {MUST}")
    assert "secret" not in problem + other


def test_a_password_may_not_stand_in_the_file(tmp_path: Path) -> None:
    text = "usage:\n  nats_url: {}\n"
    wanted = "aigateway.yaml:2: a password may not stand in the file; write `${NATS_URL}`"
    assert problems(tmp_path, text.format("nats://me:word@n")) == [wanted]
    assert problems(tmp_path, text.format("nats://token@n")) == [wanted]
    made = plan(tmp_path, text.format("${NATS_URL}"), NATS_URL="nats://me:word@n")
    assert made.usage.events == EventStream("nats://me:word@n")


@pytest.mark.parametrize("replicas", [0, 6])
def test_a_number_of_replicas_that_jetstream_has_not_is_refused(tmp_path: Path, replicas: int) -> None:
    (problem,) = problems(tmp_path, f"usage: {{nats_replicas: {replicas}}}\n")
    assert "`usage.nats_replicas`" in problem


def test_a_plan_shows_no_secret(tmp_path: Path) -> None:
    assert "word" not in repr(plan(tmp_path, NATS_URL="nats://me:word@n"))


def test_only_router_and_ledger_get_the_url(tmp_path: Path) -> None:
    given = {"NATS_URL": "nats://me:word@n", "NATS_URL_FILE": "/run/secrets/nats", "OPENAI_API_KEY": "key"}
    made = make(Overrides(data_dir=tmp_path), {**given, "NATS_URL_FILE": ""}, ollama_found=lambda: False)
    holders = {
        group.names[0]: {"NATS_URL", "NATS_URL_FILE"} & set(children.environment(made, group, given))
        for group in parts(everything(made))
    }
    both = {"NATS_URL", "NATS_URL_FILE"}
    assert holders == {"usage": both, "router": both, "provider:openai": set(), "edge": set()}


async def test_commands_that_read_the_ledger_take_no_events_for_it(tmp_path: Path) -> None:
    made = make(Overrides(data_dir=tmp_path), {"NATS_URL": "nats://127.0.0.1:1"}, ollama_found=lambda: False)
    process = Process(made, Group(usage=True))
    await process.open_ledger()
    (component,) = [component for _, _, component in process._local]
    await process.stop(1)
    assert isinstance(component, UsageComponent)
    assert component._consumer is None


def test_another_url_is_taken_at_the_next_start(tmp_path: Path) -> None:
    before, after = plan(tmp_path, NATS_URL="nats://a"), plan(tmp_path, NATS_URL="nats://b")
    assert pending(before, after) == ["router", "usage"]
