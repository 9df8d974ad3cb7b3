"""What a command line, a file and an environment add up to, and what each service is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_launcher.environment import described
from aigateway_launcher.plan import Overrides, Plan, make
from aigateway_launcher.reload import pending

KEY = "a-gateway-key-of-some-length"


def plan(tmp_path: Path, text: str = "", overrides: Overrides | None = None, /, **environment: str) -> Plan:
    file = tmp_path / "aigateway.yaml"
    file.write_text(text)
    given = overrides or Overrides()
    whole = Overrides(file, given.host, given.port, given.grpc_port, given.data_dir, given.metrics_port)
    return make(whole, environment, ollama_found=lambda: False)


def problems(tmp_path: Path, text: str = "", /, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        plan(tmp_path, text, None, **environment)
    return [str(problem) for problem in caught.value.problems]


def test_the_file_wins_over_the_environment_and_the_command_line_over_both(tmp_path: Path) -> None:
    text = "server: {port: 2000}\n"
    assert plan(tmp_path, PORT="1000").port == 1000
    assert plan(tmp_path, text, PORT="1000").port == 2000
    assert plan(tmp_path, text, Overrides(port=3000), PORT="1000").port == 3000


def test_a_key_enables_its_provider_and_the_rest_say_what_would(tmp_path: Path) -> None:
    got = plan(tmp_path, GROQ_API_KEY="gsk", GOOGLE_API_KEY="goog")
    assert list(got.providers) == ["gemini", "groq"]
    assert got.providers["gemini"].api_key == "goog"
    assert got.sources == {"gemini": "GOOGLE_API_KEY", "groq": "GROQ_API_KEY"}
    assert got.router.disabled["openai"] == "set OPENAI_API_KEY"


def test_ollama_is_enabled_by_its_address_or_by_answering(tmp_path: Path) -> None:
    assert plan(tmp_path, LOCAL_LLM_BASE_URL="http://gpu:1").providers["ollama"].base_url == "http://gpu:1"
    found = make(Overrides(), {}, ollama_found=lambda: True)
    assert found.providers["ollama"].base_url == "http://localhost:11434"


def test_without_any_provider_the_sandbox_answers(tmp_path: Path) -> None:
    assert list(plan(tmp_path).providers) == ["sandbox"]
    assert list(plan(tmp_path, OPENAI_API_KEY="k").providers) == ["openai"]
    assert list(plan(tmp_path, OPENAI_API_KEY="k", AIGATEWAY_SANDBOX="yes").providers) == ["openai", "sandbox"]


def test_a_second_upstream_of_a_kind_has_its_own_address_and_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("file-key\n")
    text = f"providers:\n  work: {{kind: openai, base_url: 'http://vllm/v1', api_key_file: {tmp_path / 'key'}}}\n"
    got = plan(tmp_path, text, OPENAI_API_KEY="k", OPENAI_BASE_URL="http://elsewhere/v1")
    assert (got.providers["work"].base_url, got.providers["work"].api_key) == ("http://vllm/v1", "file-key")
    assert (got.providers["openai"].base_url, got.providers["openai"].api_key) == ("http://elsewhere/v1", "k")


def test_a_variable_may_name_a_file_that_holds_the_key(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file\n")
    assert plan(tmp_path, OPENAI_API_KEY_FILE=str(tmp_path / "secret")).providers["openai"].api_key == "from-a-file"
    assert problems(tmp_path, OPENAI_API_KEY_FILE="/nowhere/x") == [
        "OPENAI_API_KEY_FILE: `/nowhere/x` cannot be read: No such file or directory"
    ]


def test_several_gateway_keys_are_allowed_and_weak_ones_refused(tmp_path: Path) -> None:
    got = plan(tmp_path, 'keys: ["${FIRST}"]\n', FIRST=KEY, GATEWAY_API_KEY=f"{KEY}-2, {KEY}-3")
    assert got.router.api_keys == (KEY, f"{KEY}-2", f"{KEY}-3")
    (problem,) = problems(tmp_path, GATEWAY_API_KEY="aaaaaaaaaaaaaaaaaaaaaaaa")
    assert "varied characters" in problem
    assert KEY not in repr(got.router)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "gateway.internal"])
def test_only_loopback_is_served_without_a_key(tmp_path: Path, host: str) -> None:
    (problem,) = problems(tmp_path, HOST=host)
    assert "only loopback may be served" in problem
    assert plan(tmp_path, HOST=host, GATEWAY_API_KEY=KEY).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_key(tmp_path: Path, host: str) -> None:
    assert plan(tmp_path, HOST=host).host == host


@pytest.mark.parametrize(("word", "value"), [("true", True), ("1", True), ("yes", True), ("no", False), ("0", False)])
def test_booleans_are_the_words_people_use(tmp_path: Path, word: str, value: bool) -> None:
    assert plan(tmp_path, f"server: {{reflection: {word}}}\n").reflection is value
    assert plan(tmp_path, f"server: {{reflection: '{word}'}}\n").reflection is value


def test_variables_are_put_in_with_their_defaults(tmp_path: Path) -> None:
    text = "server:\n  port: ${MY_PORT:-4000}\n  log_level: ${LEVEL:-warning}\n"
    assert (plan(tmp_path, text).port, plan(tmp_path, text).log_level) == (4000, "warning")
    assert plan(tmp_path, text, MY_PORT="5000").port == 5000


def test_services_elsewhere_need_no_key_here(tmp_path: Path) -> None:
    got = plan(tmp_path, AIGATEWAY_PROVIDER_TARGETS="openai=a:1, anthropic=b:2", AIGATEWAY_USAGE_TARGET="c:3")
    assert got.targets.providers == {"openai": "a:1", "anthropic": "b:2"}
    assert got.targets.usage == "c:3"
    assert not got.providers
    assert "openai" not in got.router.disabled


def test_a_target_may_be_several_addresses(tmp_path: Path) -> None:
    got = plan(tmp_path, AIGATEWAY_PROVIDER_TARGETS="openai=ipv4:10.0.0.1:1,10.0.0.2:2, groq=b:3")
    assert got.targets.providers == {"openai": "ipv4:10.0.0.1:1,10.0.0.2:2", "groq": "b:3"}


def test_the_ledger_and_the_outbox_lie_in_the_data_folder(tmp_path: Path) -> None:
    got = plan(tmp_path, AIGATEWAY_DATA_DIR=str(tmp_path / "here"))
    assert got.router.outbox_dir == tmp_path / "here" / "outbox"
    assert got.usage.database_url == f"sqlite+aiosqlite:///{tmp_path / 'here' / 'ledger.db'}"
    assert plan(tmp_path, DATABASE_URL="postgresql://u@h/d").usage.database_url == "postgresql://u@h/d"


def test_every_problem_is_told_once_with_its_place(tmp_path: Path) -> None:
    text = "server:\n  port: 99999\nproviders:\n  openai: {}\n  groq: {base_url: groq.com}\n"
    got = problems(tmp_path, text, LOG_LEVEL="loud", AIGATEWAY_PROVIDER_TARGETS="x", GROQ_API_KEY="k")
    assert sorted(got) == [
        "AIGATEWAY_PROVIDER_TARGETS: `x` is not name=host:port",
        "LOG_LEVEL: must be debug, info, warning or error, not `loud`",
        "aigateway.yaml:2: `server.port`: input should be less than or equal to 65535",
        "aigateway.yaml:4: `openai` needs a key: set OPENAI_API_KEY",
        "aigateway.yaml:5: must begin with http:// or https://, not `groq.com`",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "keys: 7\n",
        "keys: [[1]]\n",
        "prices: {a: {input: 1}}\n",
        "server: x\n",
        "providers: [1]\n",
        "aliases: {a: {}}\n",
    ],
)
def test_a_wrong_shape_is_told_and_left_out(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("aigateway.yaml:1: ")


def test_a_file_that_is_not_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "server:\n  port: [1\nkeys: ]\n")
    assert problem.startswith("aigateway.yaml:3: not valid YAML")
    (problem,) = problems(tmp_path, "- a\n")
    assert problem == "aigateway.yaml:1: must hold settings (`name: value`)"


def test_the_address_that_the_commands_read_is_no_mistake_when_the_gateway_starts(tmp_path: Path) -> None:
    assert list(plan(tmp_path, AIGATEWAY_URL="http://127.0.0.1:8080").providers) == ["sandbox"]


def test_every_variable_that_is_read_is_described() -> None:
    assert {"OPENAI_API_KEY", "GATEWAY_API_KEY", "OLLAMA_URL", "DATABASE_URL", "HOST", "PORT"} <= set(described())


def test_each_provider_has_limits_of_its_own_and_ollama_time_to_load_a_model(tmp_path: Path) -> None:
    text = (
        "providers:\n  ollama: {}\n  big: {kind: ollama, first_byte_timeout: 7200}\n"
        "  groq: {connect_timeout: 1, first_byte_timeout: 2, idle_timeout: 3, total_timeout: 4}\n"
    )
    got = plan(tmp_path, text, GROQ_API_KEY="k", OPENAI_API_KEY="k").providers
    limits = {
        name: (one.connect_timeout, one.first_byte_timeout, one.idle_timeout, one.total_timeout)
        for name, one in got.items()
    }
    assert limits == {
        "openai": (10, 600, 300, 3600),
        "groq": (1, 2, 3, 4),
        "ollama": (10, 1800, 300, 3600),
        "big": (10, 7200, 300, 3600),
    }


def test_a_limit_of_no_time_is_refused_by_name(tmp_path: Path) -> None:
    (mistake,) = problems(tmp_path, "providers:\n  ollama: {idle_timeout: 0}\n")
    assert "`providers.ollama.idle_timeout`" in mistake


def test_the_address_of_redis_comes_from_file_or_environment_and_is_checked(tmp_path: Path) -> None:
    assert plan(tmp_path, REDIS_URL="redis://r:6379").router.redis_url == "redis://r:6379"
    assert plan(tmp_path, "redis_url: unix:///run/redis.sock\n", REDIS_URL="redis://r").router.redis_url == (
        "unix:///run/redis.sock"
    )
    (problem,) = problems(tmp_path, REDIS_URL="r:6379/secret")
    assert problem == "REDIS_URL: must begin with redis://, rediss:// or unix://"


def test_fallbacks_are_taken_while_running_and_limits_at_the_next_start(tmp_path: Path) -> None:
    before = plan(tmp_path, AIGATEWAY_SANDBOX="1")
    after = plan(tmp_path, "fallbacks: {fast: [sandbox/echo]}\n", AIGATEWAY_SANDBOX="1")
    limited = plan(tmp_path, "limits: {requests_per_minute: 5}\n", AIGATEWAY_SANDBOX="1")
    assert after.router.fallbacks == {"fast": ("sandbox/echo",)}
    assert pending(before, after) == []
    assert pending(before, limited) == ["router"]
