"""Log lines: what stands in them, and what never does."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from aigateway_common import logs
from hypothesis import example, given
from hypothesis import strategies as st

OPENAI = "sk-proj-abcdefghijklmnop1234567890"
GOOGLE = "AIzaSyA1234567890abcdefghijklmnopqrstuv"
ANTHROPIC = "sk-ant-api03-abcdefghijklmnop"
GROQ = "gsk_abcdefghijklmnop1234"

pytestmark = pytest.mark.usefixtures("logging_restored")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_its_ids(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.get("router")
    logs.configure("info", json=True)
    logs.bind(request_id="r1", trace_id="t1")
    log.info("call_finished", provider="openai", seconds=0.5)
    log.debug("not shown")
    logs.unbind()
    log.warning("later")

    first, second = lines(capsys)
    assert first.pop("time").endswith("Z")
    assert first == {
        "event": "call_finished",
        "level": "info",
        "source": "router",
        "request_id": "r1",
        "trace_id": "t1",
        "provider": "openai",
        "seconds": 0.5,
    }
    assert "request_id" not in second


def test_lines_are_forwarded_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    got: list[dict[str, Any]] = []
    logs.configure("info", json=True)
    logs.forward(lambda line: got.append(dict(line)))
    logs.get("router").info(f"with {OPENAI}", prompt="secret")
    logs.get("router").debug("not shown")
    logging.getLogger("httpx").warning("sent %s", GROQ)
    logs.forward(None)
    logs.get("router").info("later")

    assert got == lines(capsys)[:2]
    assert [line["event"] for line in got] == ["with ***", "sent ***"]


def test_exporters_do_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json=True)
    exporter = logging.getLogger("opentelemetry.exporter")
    for _ in range(3):
        exporter.warning("Transient error while exporting %s", "logs")
        exporter.error("Failed to export %s", "logs")

    assert [line["event"] for line in lines(capsys)] == [
        "Transient error while exporting logs",
        "Failed to export logs",
    ]


async def test_ids_belong_to_one_task(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json=True)
    both = asyncio.Barrier(2)

    async def call(name: str) -> None:
        logs.bind(request_id=name)
        await both.wait()
        logs.get("x").info("event", name=name)

    await asyncio.gather(call("a"), call("b"))

    assert {(line["name"], line["request_id"]) for line in lines(capsys)} == {("a", "a"), ("b", "b")}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (OPENAI, "***"),
        (f"Incorrect API key provided: {OPENAI}.", "Incorrect API key provided: ***."),
        (f"{ANTHROPIC} {GROQ} {GOOGLE}", "*** *** ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        (f"https://g/v1beta/models?key={GOOGLE}&alt=sse", "https://g/v1beta/models?key=***&alt=sse"),
        ("postgresql://user:pa55@host/db", "postgresql://user:***@host/db"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("task-finished desk-abcdefghijklmnop", "task-finished desk-abcdefghijklmnop"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
    ],
)
def test_what_looks_like_a_key_is_masked(text: str, masked: str) -> None:
    assert logs.mask_text(text) == masked


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
@example("AIza" + "a" * 35)
@example("eyJhbGciOiJIUzI1NiJ9")
@example("bearer")
def test_an_id_of_ours_never_looks_like_a_key(rest: str) -> None:
    assert rest.isalnum()
    assert logs.mask_text(f"req_{rest}") == f"req_{rest}"


@pytest.mark.parametrize("given_id", [OPENAI, f"req_{OPENAI}", f"req_a {GROQ}", f"req_a:{GOOGLE}"])
def test_a_key_given_as_the_id_of_a_call_is_masked_in_its_line(
    capsys: pytest.CaptureFixture[str], given_id: str
) -> None:
    logs.configure("info", json=True)
    logs.call(logs.get("edge"), "edge", given_id, {"status": 200})
    (line,) = lines(capsys)
    assert line["request_id"] == logs.mask_text(given_id)


def test_keys_and_prompts_never_appear(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", json=True)
    secrets = {
        "messages": [{"role": "user", "content": "PROMPT"}],
        "Prompt": "PROMPT",
        "api_key": "hunter2",
        "nested": {"headers": {"Authorization": "hunter2", "x-goog-api-key": "hunter2", "host": "h"}},
        "list": [f"Bearer {OPENAI}", {"content": "PROMPT"}],
        "raw": b"PROMPT",
        "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": "PROMPT"}}}}}}},
        "object": ValueError(OPENAI),
    }
    logs.get("x").info(f"said {OPENAI}", **secrets)
    logs.get("x").error("failed", exc_info=ValueError(f"bad key {OPENAI}"))
    logging.getLogger("library").warning("sent Bearer %s", OPENAI)
    logging.getLogger("library").error("failed", exc_info=ValueError(OPENAI))

    text = capsys.readouterr().err
    assert "PROMPT" not in text
    assert "hunter2" not in text
    assert OPENAI not in text
    assert "bad key ***" in text
    assert json.loads(text.splitlines()[0])["nested"] == {"headers": {"host": "h"}}


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json=True)
    logs.bind(request_id="r1")
    logging.getLogger("grpc._server").warning("odd %s", "thing")
    logging.getLogger("grpc._server").info("chatter")

    (line,) = lines(capsys)
    assert (line["event"], line["source"], line["level"], line["request_id"]) == (
        "odd thing",
        "grpc._server",
        "warning",
        "r1",
    )


def test_a_terminal_gets_readable_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", json=False)
    logs.get("x").info("started", port=8080, key=OPENAI)

    text = capsys.readouterr().err
    assert "started" in text
    assert "port=8080" in text
    assert OPENAI not in text


def test_an_unknown_level_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`loud` is no log level"):
        logs.configure("loud", json=True)


def test_the_line_of_a_call_is_that_of_any_other_event(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.get("edge")
    logs.configure("info", json=True)
    fields: dict[str, str | int | float] = {
        "status": 200,
        "model": f"openai/{OPENAI}",
        "seconds": 0.25,
        "sent_model": "x" * 200 + f" {GROQ}",
    }
    log.info("call", request_id=f"r-{GROQ}", **fields)
    logs.call(log, "edge", f"r-{GROQ}", fields)

    usual, fast = lines(capsys)
    assert usual.pop("time")[:17] <= fast.pop("time")[:17]
    assert fast == usual
    assert fast["model"] == "openai/***"


@pytest.mark.parametrize(("level", "json", "shown"), [("warning", True, 0), ("info", False, 1)])
def test_the_line_of_a_call_follows_level_and_shape(
    capsys: pytest.CaptureFixture[str], level: str, json: bool, shown: int
) -> None:
    logs.configure(level, json=json)
    logs.call(logs.get("edge"), "edge", "r1", {"status": 200})

    text = capsys.readouterr().err
    assert text.count("r1") == shown
    assert not text.startswith("{")
