"""How much Claude thinks, per model, and thinking blocks of earlier turns."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.anthropic.request import build
from aigateway_providers.settings import ProviderSettings

SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")
HELLO = {"role": "user", "content": "Hello"}
BUDGET = "claude-sonnet-4-5"
TOOL = {"type": "function", "function": {"name": "f"}}


def call(*messages: Any, model: str = BUDGET, **fields: Any) -> chat_pb2.ChatCall:
    return chat_call(json.dumps({"model": model, "messages": messages or [HELLO], **fields}).encode()).call


def sent(of: chat_pb2.ChatCall) -> tuple[Any, Any, int]:
    """`thinking`, `output_config` and `max_tokens`."""
    body = json.loads(build(of, SETTINGS, stream=False).body)
    return body.get("thinking"), body.get("output_config"), body["max_tokens"]


def notes(of: chat_pb2.ChatCall) -> dict[str, str]:
    names = {1: "dropped", 2: "clamped", 3: "emulated"}
    return {note.field: names[note.action] for note in build(of, SETTINGS, stream=False).translation}


def test_nothing_is_said_when_nothing_was_asked() -> None:
    assert sent(call(max_tokens=10))[:2] == (None, None)


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "output_config", "reported"),
    [
        (BUDGET, "low", {"type": "enabled", "budget_tokens": 2048}, None, {"reasoning_effort": "emulated"}),
        (BUDGET, "high", {"type": "enabled", "budget_tokens": 24_576}, None, {"reasoning_effort": "emulated"}),
        (
            "claude-opus-4-5",
            "medium",
            {"type": "enabled", "budget_tokens": 8192},
            {"effort": "medium"},
            {"reasoning_effort": "emulated"},
        ),
        ("claude-sonnet-4-6", "medium", {"type": "adaptive"}, {"effort": "medium"}, {}),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, {"effort": "high"}, {"reasoning_effort": "clamped"}),
        ("claude-opus-4-7", "xhigh", {"type": "adaptive"}, {"effort": "xhigh"}, {}),
        ("claude-opus-4-7", "minimal", {"type": "adaptive"}, {"effort": "low"}, {"reasoning_effort": "clamped"}),
        ("claude-opus-5-5", "max", {"type": "adaptive"}, {"effort": "max"}, {}),
        ("claude-3-5-haiku-20241022", "high", None, None, {"reasoning_effort": "dropped"}),
    ],
)
def test_an_effort_becomes_what_the_model_takes(
    model: str, effort: str, thinking: Any, output_config: Any, reported: dict[str, str]
) -> None:
    asked = call(model=model, reasoning_effort=effort)
    assert sent(asked)[:2] == (thinking, output_config)
    assert notes(asked) == reported


@pytest.mark.parametrize(
    ("model", "thinking", "output_config", "reported"),
    [
        (BUDGET, None, None, {}),
        ("claude-opus-4-7", None, None, {}),
        ("claude-opus-5", {"type": "disabled"}, None, {}),
        ("claude-sonnet-5-5", {"type": "between_tools"}, None, {}),
        ("claude-fable-5-1", None, {"effort": "low"}, {"reasoning_effort": "clamped"}),
    ],
)
@pytest.mark.parametrize("off", [{"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}])
def test_thinking_is_turned_off_in_the_models_own_way(
    off: Any, model: str, thinking: Any, output_config: Any, reported: dict[str, str]
) -> None:
    asked = call(model=model, **off)
    assert sent(asked)[:2] == (thinking, output_config)
    assert notes(asked) == reported


def test_a_budget_is_carried_where_the_model_takes_one() -> None:
    for model in (BUDGET, "claude-sonnet-4-6"):
        asked = call(model=model, max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 3000})
        assert sent(asked) == ({"type": "enabled", "budget_tokens": 3000}, None, 9000)
        assert notes(asked) == {}


def test_a_budget_becomes_an_effort_where_the_model_takes_none() -> None:
    asked = call(model="claude-opus-4-7", thinking={"type": "enabled", "budget_tokens": 3000})
    assert sent(asked)[:2] == ({"type": "adaptive"}, {"effort": "medium"})
    assert notes(asked) == {"thinking.budget_tokens": "emulated"}


def test_a_budget_below_the_least_is_raised_and_reported() -> None:
    asked = call(max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 5})
    assert sent(asked)[0] == {"type": "enabled", "budget_tokens": 1024}
    assert notes(asked) == {"thinking.budget_tokens": "clamped"}


def test_a_budget_over_the_callers_limit_is_lowered_and_reported() -> None:
    asked = call(max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 4000})
    assert sent(asked) == ({"type": "enabled", "budget_tokens": 2976}, None, 4000)
    assert notes(asked) == {"thinking.budget_tokens": "clamped"}


def test_a_default_limit_makes_room_for_the_budget() -> None:
    asked = call(model="claude-sonnet-4-20250514", thinking={"type": "enabled", "budget_tokens": 10_000})
    assert sent(asked) == ({"type": "enabled", "budget_tokens": 10_000}, None, 18_192)


def test_a_limit_too_small_for_any_thinking_drops_it_and_says_so() -> None:
    asked = call(max_tokens=1000, thinking={"type": "enabled", "budget_tokens": 2000})
    assert sent(asked) == (None, None, 1000)
    assert notes(asked) == {"reasoning_effort": "dropped"}


def test_adaptive_thinking_is_carried_or_stands_for_a_budget() -> None:
    assert sent(call(model="claude-opus-4-6", thinking={"type": "adaptive"}))[0] == {"type": "adaptive"}
    assert sent(call(thinking={"type": "adaptive"}))[0] == {"type": "enabled", "budget_tokens": 8192}


@pytest.mark.parametrize(
    ("reasoning", "display"),
    [
        ({"effort": "high", "exclude": True}, "omitted"),
        ({"effort": "high", "exclude": False}, "summarized"),
        ({"effort": "high", "summary": "auto"}, "summarized"),
    ],
)
def test_whether_thinking_is_shown_is_carried(reasoning: Any, display: str) -> None:
    assert sent(call(model="claude-opus-4-7", reasoning=reasoning))[0] == {"type": "adaptive", "display": display}


def test_showing_alone_is_said_to_models_that_think_anyway() -> None:
    shown = {"reasoning": {"exclude": False}}
    assert sent(call(model="claude-opus-5", **shown))[0] == {"type": "adaptive", "display": "summarized"}
    assert sent(call(model="claude-opus-4-7", **shown))[0] is None


def test_a_forced_tool_drops_manual_thinking_and_says_so_but_keeps_adaptive() -> None:
    forced: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required", "reasoning_effort": "high"}
    assert sent(call(**forced))[0] is None
    assert notes(call(**forced)) == {"reasoning_effort": "dropped"}
    assert sent(call(model="claude-opus-4-7", **forced))[0] == {"type": "adaptive"}


def test_sampling_returns_to_its_defaults_while_the_model_thinks() -> None:
    asked = call(model="claude-sonnet-4-20250514", reasoning_effort="low", temperature=0.3, top_p=0.5, top_k=7)
    body = json.loads(build(asked, SETTINGS, stream=False).body)
    assert {"temperature", "top_p", "top_k"}.isdisjoint(body)
    assert notes(asked) == {
        "reasoning_effort": "emulated",
        "temperature": "dropped",
        "top_p": "dropped",
        "top_k": "dropped",
    }


# Earlier turns


def detail(kind: str, state: str, provider: str = "anthropic", **more: Any) -> dict[str, Any]:
    return {
        "type": f"reasoning.{kind}",
        "provider": provider,
        "state": base64.b64encode(state.encode()).decode(),
        **more,
    }


def test_thinking_and_withheld_thinking_return_unmodified_in_order_before_the_calls() -> None:
    turn = {
        "role": "assistant",
        "content": "Well.",
        "reasoning_details": [detail("text", "sig==", text="Hm."), detail("encrypted", "blob")],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    asked = call(HELLO, turn, {"role": "tool", "tool_call_id": "c", "content": "r"}, tools=[TOOL])
    assert json.loads(build(asked, SETTINGS, stream=False).body)["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "text", "text": "Well."},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]


@pytest.mark.parametrize(
    "lost",
    [
        {"reasoning_content": "Hm."},
        {"reasoning_details": [detail("text", "x", provider="gemini", text="Hm.")]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
    ],
)
def test_thinking_without_its_own_signature_is_left_out_whole(lost: Any) -> None:
    asked = call(HELLO, {"role": "assistant", "content": "Well.", **lost}, HELLO)
    assert json.loads(build(asked, SETTINGS, stream=False).body)["messages"][1]["content"] == [
        {"type": "text", "text": "Well."}
    ]


def test_another_providers_state_on_a_call_is_not_sent() -> None:
    signed = {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "secret"}},
    }
    asked = call(HELLO, {"role": "assistant", "content": None, "tool_calls": [signed]}, HELLO)
    assert b"secret" not in build(asked, SETTINGS, stream=False).body
