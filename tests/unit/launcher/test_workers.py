"""What `up --workers` tells each child, and what it refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_launcher.supervisor import Child
from aigateway_launcher.worker import Worker
from aigateway_launcher.workers import Workers

ENVIRONMENT = {"PATH": "/bin", "OPENAI_API_KEY": "openai-key", "REDIS_URL": "redis://:secret@r"}


def plan(folder: Path, count: int = 3, **more: Any) -> Plan:
    given = {"port": 0, "grpc_port": 0} | more
    return make(Overrides(data_dir=folder, workers=count, **given), ENVIRONMENT, ollama_found=lambda: False)


@contextmanager
def layout(of: Plan) -> Iterator[Workers]:
    made = Workers(of, ENVIRONMENT)
    try:
        yield made
    finally:
        made.leave()
        made.close()


def option(child: Child, name: str) -> str:
    return child.arguments[list(child.arguments).index(name) + 1]


def test_the_ledger_comes_first_and_the_workers_share_the_ports(tmp_path: Path) -> None:
    with layout(plan(tmp_path)) as made:
        (usage,), workers = made.stages
        assert [child.name for child in workers] == ["worker-0", "worker-1", "worker-2"]
        assert {child.arguments[1] for child in workers} == {"edge,router,provider:openai"}
        assert len({option(child, "--port") for child in workers}) == 1
        assert len({option(child, "--grpc-port") for child in workers}) == 1
        target = f"127.0.0.1:{option(usage, '--grpc-port')}"
        assert {child.environment["AIGATEWAY_USAGE_TARGET"] for child in workers} == {target}
        told = [Worker.parse(option(child, "--worker")) for child in workers]
        assert [(worker.index, worker.count) for worker in told] == [(0, 3), (1, 3), (2, 3)]
        assert [child.descriptors for child in workers] == [(worker.http_fd,) for worker in told]


def test_the_ledger_gets_no_key_of_a_provider_and_no_password_of_redis(tmp_path: Path) -> None:
    with layout(plan(tmp_path)) as made:
        (usage,), (worker, *_) = made.stages
        secrets = {"OPENAI_API_KEY", "REDIS_URL"}
        assert not secrets & set(usage.environment)
        assert secrets <= set(worker.environment)


@pytest.mark.parametrize(("asked", "ports"), [(9090, ["9090", "9091", "9092"]), (0, ["0", "0", "0"])])
def test_each_process_has_a_port_of_metrics_the_ledger_first(tmp_path: Path, asked: int, ports: list[str]) -> None:
    with layout(plan(tmp_path, 2, metrics_port=asked)) as made:
        assert [option(child, "--metrics-port") for stage in made.stages for child in stage] == ports


def test_each_worker_keeps_its_events_apart_and_counts_with_the_others(tmp_path: Path) -> None:
    of = plan(tmp_path, 2)
    first, second = (Worker(index, 2, 9).plan(of).router for index in (0, 1))
    assert first.own_outbox == of.router.own_outbox == tmp_path / "outbox"
    assert second.own_outbox == tmp_path / "outbox" / "worker-1"
    assert first.share is not None
    assert second.share is not None
    assert first.share.folder == second.share.folder == tmp_path / "workers" / "limits"


def test_nothing_of_earlier_workers_counts(tmp_path: Path) -> None:
    old = tmp_path / "workers" / "limits"
    old.mkdir(parents=True)
    (old / "data.mdb").write_text("old")
    with layout(plan(tmp_path)):
        assert not old.exists()


def test_one_data_folder_has_one_set_of_workers(tmp_path: Path) -> None:
    with layout(plan(tmp_path)), pytest.raises(ConfigurationError, match="other workers use this data folder"):
        Workers(plan(tmp_path), ENVIRONMENT)
    with layout(plan(tmp_path)):
        pass


@pytest.mark.parametrize("name", ["port", "grpc_port"])
def test_a_port_that_another_has_is_refused_even_if_it_would_be_shared(tmp_path: Path, name: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        of = plan(tmp_path, **{name: other.getsockname()[1]})
        with pytest.raises(ConfigurationError, match=f"choose another with --{name.replace('_', '-')}"):
            Workers(of, ENVIRONMENT)


def test_the_grpc_port_is_kept_from_others_while_no_worker_is_there(tmp_path: Path) -> None:
    with layout(plan(tmp_path)) as made, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", int(option(made.stages[1][0], "--grpc-port"))))


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_number_of_workers_that_makes_no_sense_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigurationError, match="--workers: must be from 1 to 64"):
        plan(tmp_path, count)
    variables = {"AIGATEWAY_WORKERS": str(count)}
    with pytest.raises(ConfigurationError, match="AIGATEWAY_WORKERS: must be from 1 to 64"):
        make(Overrides(data_dir=tmp_path), variables, ollama_found=lambda: False)


def test_the_number_of_workers_comes_from_the_command_line_the_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "aigateway.yaml"
    file.write_text("server: {workers: 3}\n")

    def workers(config: Path | None, asked: int | None = None) -> int:
        variables = {"AIGATEWAY_WORKERS": "4"}
        over = Overrides(config=config, data_dir=tmp_path, workers=asked)
        return make(over, variables, ollama_found=lambda: False).workers

    assert (workers(None), workers(file), workers(file, 2)) == (4, 3, 2)
    assert make(Overrides(data_dir=tmp_path), {}, ollama_found=lambda: False).workers == 1


@pytest.mark.parametrize("text", ["", "1", "a/2/3", "1/2/3/4"])
def test_a_worker_is_made_by_its_parent_alone(text: str) -> None:
    with pytest.raises(ConfigurationError, match="up --workers"):
        Worker.parse(text)
