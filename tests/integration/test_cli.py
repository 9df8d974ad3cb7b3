"""The commands, as a person at a shell uses them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from support.gateway import Gateway, command, environment, start
from support.ledger import wait_for


def run(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    variables = environment(None) | {"COLUMNS": "200"} | (env or {})
    return subprocess.run(
        command(*arguments), env=variables, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_banner_says_what_is_enabled_and_what_to_try(sandbox: Gateway) -> None:
    text = sandbox.running[-1].wait_text("Try it")
    assert "is ready (one process)" in text
    assert "sandbox" in text
    assert "set OPENAI_API_KEY" in text
    assert f"curl {sandbox.http}/v1/chat/completions" in text


def test_chat_streams_the_answer(sandbox: Gateway, tmp_path: Path) -> None:
    got = run(tmp_path, "chat", "Hello you", "--model", "sandbox/echo", "--url", sandbox.http)
    assert (got.returncode, got.stderr) == (0, "")
    assert "Hello you" in got.stdout


def test_chat_as_json_is_the_answer_whole(sandbox: Gateway, tmp_path: Path) -> None:
    got = run(tmp_path, "chat", "Hello you", "-m", "sandbox/echo", "--url", sandbox.http, "--json")
    assert json.loads(got.stdout)["object"] == "chat.completion"


def test_chat_says_what_went_wrong(sandbox: Gateway, tmp_path: Path) -> None:
    got = run(tmp_path, "chat", "Hello", "-m", "sandbox/nothing", "--url", sandbox.http)
    assert got.returncode == 1
    assert got.stderr.startswith("404: ")
    assert "Traceback" not in got.stderr


def test_a_gateway_that_is_not_there_is_said_with_the_fix(tmp_path: Path) -> None:
    got = run(tmp_path, "models", "--url", "http://127.0.0.1:1")
    assert got.returncode == 1
    assert "`aigateway up`" in got.stderr
    assert "Traceback" not in got.stderr


def test_models_lists_them(sandbox: Gateway, tmp_path: Path) -> None:
    assert "sandbox/echo" in run(tmp_path, "models", "--url", sandbox.http).stdout
    listing = json.loads(run(tmp_path, "models", "--url", sandbox.http, "--json").stdout)
    assert {"sandbox/echo", "sandbox/tools"} <= {model["id"] for model in listing["data"]}


def test_usage_sums_up_while_the_gateway_runs(sandbox: Gateway, tmp_path: Path) -> None:
    run(tmp_path, "chat", "count me", "-m", "sandbox/echo", "--url", sandbox.http)
    seen = wait_for(sandbox.data, 1, "select count(*) as n from requests where model = 'echo' having n > 0")
    rows = json.loads(
        run(tmp_path, "usage", "--data-dir", str(sandbox.data), "--by", "provider,model", "--json").stdout
    )
    (echo,) = [row for row in rows if row["model"] == "echo"]
    assert echo["provider"] == "sandbox"
    assert echo["calls"] >= seen[0]["n"]
    assert echo["cost_usd"] == 0
    table = run(tmp_path, "usage", "--data-dir", str(sandbox.data), "--last", "5").stdout
    assert "sandbox/echo" in table


def test_usage_refuses_an_unknown_key(tmp_path: Path) -> None:
    got = run(tmp_path, "usage", "--by", "modle")
    assert got.returncode == 2
    assert "did you mean `model`?" in got.stderr


def test_check_config_tells_every_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "aigateway.yaml").write_text(
        "server:\n"
        "  prot: 1\n"
        "keys: [short]\n"
        "providers:\n"
        "  openai:\n"
        "    api_key: sk-in-clear\n"
        "    idle_timeout: soon\n"
        "  antropic: {}\n"
        "  groq:\n"
        "    api_key: ${NOT_SET_ANYWHERE}\n"
        "aliases:\n"
        "  fast: grok/x\n"
        "aliases:\n"
        "  slow: y\n"
    )
    got = run(tmp_path, "check-config", env={"AIGATEWAY_DATADIR": "x", "PORT": "many"})
    assert got.returncode == 2
    assert "Traceback" not in got.stderr
    for line in (
        "aigateway.yaml:2: `server.prot` is not a setting; did you mean `port`?",
        "aigateway.yaml:7: `providers.openai.idle_timeout`",
        "aigateway.yaml:10: `${NOT_SET_ANYWHERE}` is not set",
        "aigateway.yaml:13: `aliases` is given twice; the first is at line 11",
        "AIGATEWAY_DATADIR: is not a setting; did you mean `AIGATEWAY_DATA_DIR`?",
        "PORT: must be a number, not `many`",
    ):
        assert line in got.stderr, got.stderr


def test_mistakes_of_meaning_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "aigateway.yaml").write_text(
        "keys: [short]\n"
        "providers:\n"
        "  openai:\n"
        "    api_key: sk-in-clear\n"
        "  antropic: {}\n"
        "aliases:\n"
        "  fast: grok/x\n"
        "  slow: y\n"
    )
    got = run(tmp_path, "check-config", "--json")
    assert got.returncode == 2
    problems = {problem["where"]: problem["message"] for problem in json.loads(got.stdout)["problems"]}
    assert "varied characters" in problems["aigateway.yaml:1"]
    assert problems["aigateway.yaml:4"] == "a key may not stand in the file; write `${OPENAI_API_KEY}`"
    assert problems["aigateway.yaml:5"] == "`antropic` is not a kind of provider; did you mean `anthropic`?"
    assert problems["aigateway.yaml:7"] == "`fast`: `grok` is not a provider; did you mean `groq`?"
    assert problems["aigateway.yaml:8"] == "`slow` must name `provider/model` or another alias, not `y`"


def test_an_open_address_without_a_key_is_refused(tmp_path: Path) -> None:
    got = run(tmp_path, "up", "--host", "0.0.0.0", "--port", "0")
    assert got.returncode == 2
    assert "only loopback may be served" in got.stderr
    assert "secrets.token_urlsafe" in got.stderr


def test_an_open_grpc_address_without_a_key_is_refused_too(tmp_path: Path) -> None:
    env = {"AIGATEWAY_GRPC_HOST": "0.0.0.0"}
    got = run(tmp_path, "up", "--port", "0", "--grpc-port", "0", env=env)
    assert got.returncode == 2
    assert "the router may serve loopback only" in got.stderr


def test_a_taken_port_is_said_with_the_fix(sandbox: Gateway, tmp_path: Path) -> None:
    port = sandbox.http.rpartition(":")[2]
    got = run(tmp_path, "up", "--port", port, "--grpc-port", "0")
    assert got.returncode == 2
    assert "choose another with --port" in got.stderr
    assert "Traceback" not in got.stderr


@pytest.mark.parametrize("given", [("up", "--port", "0"), ("up", "--port", "0", "--split"), ("serve", "usage")])
def test_a_data_folder_that_cannot_be_had_is_said_with_the_fix(tmp_path: Path, given: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    got = run(tmp_path, *given, "--grpc-port", "0", "--data-dir", "file")
    assert got.returncode == 2, got.stderr
    assert f"{tmp_path / 'file'}: nothing can be kept there" in got.stderr
    assert "--data-dir" in got.stderr
    assert "Traceback" not in got.stderr


def test_a_service_that_keeps_nothing_needs_no_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = environment(None)
    running = start(tmp_path, env, "serve", "provider:sandbox", "--grpc-port", "0", "--data-dir", "file")
    assert running.stop() == 0, running.text()


@pytest.mark.parametrize("topology", ["embedded", "split", "workers"])
def test_metrics_are_served_by_each_process(tmp_path: Path, topology: str) -> None:
    with Gateway(topology, tmp_path, environment(None), ("--metrics-port", "0")) as gateway:
        assert run(tmp_path, "chat", "count me", "-m", "sandbox/echo", "--url", gateway.http).returncode == 0
        addresses = gateway.running[-1].addresses["metrics"]
        text = "".join(httpx.get(f"http://{address}/metrics").text for address in addresses.values())
    assert (
        sorted(addresses)
        == {
            "embedded": ["edge,router,usage,provider:sandbox"],
            "split": ["edge", "provider:sandbox", "router", "usage"],
            "workers": ["usage", "worker-0", "worker-1"],
        }[topology]
    )
    for service in ("edge", "router", "provider"):
        labels = f'{{operation="chat",provider="sandbox",service="{service}",status="ok"}}'
        assert f"aigateway_calls_total{labels} 1.0" in text
