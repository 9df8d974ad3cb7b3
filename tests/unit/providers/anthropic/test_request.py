"""Calls to Anthropic request bodies: roles, merging, limits, sampling and what has no counterpart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_edge.openai.to_proto import chat_call
from aigateway_providers.anthropic.request import build
from aigateway_providers.settings import ProviderSettings

SETTINGS = ProviderSettings("anthropic", "anthropic", "http://127.0.0.1:1", "key")
OLD = "claude-3-5-haiku-20241022"
SONNET = "claude-sonnet-4-5"
HELLO = {"role": "user", "content": "Hello"}


def call(*messages: Any, model: str = SONNET, **fields: Any) -> chat_pb2.ChatCall:
    return chat_call(json.dumps({"model": model, "messages": messages or [HELLO], **fields}).encode()).call


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def body(of: chat_pb2.ChatCall, settings: ProviderSettings = SETTINGS, *, stream: bool = False) -> Any:
    return json.loads(build(of, settings, stream=stream).body)


def notes(of: chat_pb2.ChatCall) -> dict[str, str]:
    names = {1: "dropped", 2: "clamped", 3: "emulated"}
    return {note.field: names[note.action] for note in build(of, SETTINGS, stream=False).translation}


def test_a_plain_call_is_model_limit_and_messages() -> None:
    assert body(call(max_tokens=10)) == {
        "model": SONNET,
        "max_tokens": 10,
        "stream": False,
        "messages": [{"role": "user", "content": [text("Hello")]}],
    }
    assert notes(call(max_tokens=10)) == {}


def test_a_stream_is_asked_for() -> None:
    assert body(call(), stream=True)["stream"] is True


# Roles and merging


def test_system_and_developer_messages_become_system_blocks_in_order_with_their_cache_marks() -> None:
    sent = body(
        call(
            {"role": "system", "content": "One"},
            {"role": "developer", "content": [text("Two", cache_control={"type": "ephemeral", "ttl": "1h"})]},
            HELLO,
        )
    )
    assert sent["system"] == [text("One"), text("Two", cache_control={"type": "ephemeral", "ttl": "1h"})]
    assert sent["messages"] == [{"role": "user", "content": [text("Hello")]}]


def test_a_late_system_message_joins_the_system_prompt_and_is_reported() -> None:
    late = call({"role": "system", "content": "One"}, HELLO, {"role": "system", "content": "Two"}, HELLO)
    assert body(late)["system"] == [text("One"), text("Two")]
    assert body(late)["messages"] == [{"role": "user", "content": [text("Hello"), text("Hello")]}]
    assert notes(late) == {"messages[2]": "emulated"}


def test_neighbours_of_one_role_become_one_turn() -> None:
    sent = body(call(HELLO, {"role": "user", "content": "Again"}, {"role": "assistant", "content": "A"}, HELLO, HELLO))
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"] == [text("Hello"), text("Again")]


def test_a_history_that_opens_with_the_assistant_is_passed_on_as_it_is() -> None:
    sent = body(call({"role": "assistant", "content": "A"}, HELLO))
    assert [message["role"] for message in sent["messages"]] == ["assistant", "user"]


def test_empty_text_blocks_are_dropped() -> None:
    nothing = {"role": "assistant", "content": ""}
    sent = body(call({"role": "user", "content": [text(""), text("Hello")]}, nothing, HELLO))
    assert sent["messages"] == [{"role": "user", "content": [text("Hello"), text("Hello")]}]


def test_an_empty_user_message_is_left_for_anthropic_to_refuse() -> None:
    assert body(call({"role": "user", "content": ""}))["messages"] == [{"role": "user", "content": ""}]


def test_white_space_at_the_end_of_a_prefill_is_stripped_and_reported() -> None:
    prefill = call(HELLO, {"role": "assistant", "content": "Answer: \n"})
    assert body(prefill)["messages"][-1] == {"role": "assistant", "content": [text("Answer:")]}
    assert notes(prefill) == {"messages[1].content": "clamped"}


@pytest.mark.parametrize("model", ["claude-3-5-haiku-20241022", "claude-sonnet-4-5", "claude-opus-4-6", "claude-next"])
def test_a_prefill_goes_to_every_model_and_those_that_take_none_refuse_it_themselves(model: str) -> None:
    """Claude 4.6 answers it with 400: https://platform.claude.com/docs/en/about-claude/models/migration-guide."""
    prefill = call(HELLO, {"role": "assistant", "content": "Answer:"}, model=model)
    assert body(prefill)["messages"][-1] == {"role": "assistant", "content": [text("Answer:")]}
    assert notes(prefill) == {}


def test_a_prefill_of_white_space_only_disappears() -> None:
    assert body(call(HELLO, {"role": "assistant", "content": " "}))["messages"] == [
        {"role": "user", "content": [text("Hello")]}
    ]


def test_white_space_inside_the_conversation_stays() -> None:
    sent = body(call(HELLO, {"role": "assistant", "content": "A "}, HELLO))
    assert sent["messages"][1]["content"] == [text("A ")]


def test_a_refusal_in_the_history_is_said_as_text() -> None:
    sent = body(call(HELLO, {"role": "assistant", "content": None, "refusal": "I won't."}, HELLO))
    assert sent["messages"][1]["content"] == [text("I won't.")]


def test_names_of_participants_are_reported() -> None:
    assert notes(call(HELLO | {"name": "ann"})) == {"messages[0].name": "dropped"}


def test_a_message_without_a_role_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        body(chat_pb2.ChatCall(model=SONNET, messages=[message_pb2.Message()]))
    assert caught.value.details == {"param": "messages[0].role"}


# Limits


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-opus-20240229", 4096),
        (OLD, 8192),
        ("claude-sonnet-4-20250514", 8192),
        ("claude-haiku-4-5-20251001", 64_000),
        ("claude-opus-4-6", 128_000),
        ("claude-opus-9-brand-new", 128_000),
        ("somebody-elses-model", 4096),
    ],
)
def test_without_a_limit_the_models_own_is_sent(model: str, limit: int) -> None:
    assert body(call(model=model))["max_tokens"] == limit


def test_configured_limits_win_over_the_table_and_named_patterns_over_the_rest() -> None:
    settings = ProviderSettings("a", "anthropic", "http://x", default_max_tokens={"*": 5, "claude-opus-*": 7})
    assert body(call(model="claude-opus-4-6"), settings)["max_tokens"] == 7
    assert body(call(), settings)["max_tokens"] == 5


def test_the_newer_limit_wins_and_zero_is_refused() -> None:
    assert body(call(max_tokens=5, max_completion_tokens=6))["max_tokens"] == 6
    zero = call()
    zero.options.max_output_tokens = 0
    with pytest.raises(GatewayError) as caught:
        body(zero)
    assert caught.value.details == {"param": "max_completion_tokens"}


# Sampling and the rest of the options


def test_sampling_and_stops_are_carried() -> None:
    sent = body(call(model=OLD, temperature=0.5, top_p=0.9, top_k=40, stop=["a", "b"]))
    assert {key: sent[key] for key in ("temperature", "top_p", "top_k", "stop_sequences")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "stop_sequences": ["a", "b"],
    }


def test_a_temperature_over_one_is_clamped_and_reported() -> None:
    hot = call(temperature=1.7)
    assert body(hot)["temperature"] == 1
    assert notes(hot) == {"temperature": "clamped"}


def test_a_model_that_takes_one_sampler_gets_the_temperature() -> None:
    both = call(temperature=0.2, top_p=0.5)
    assert (body(both)["temperature"], body(both).get("top_p")) == (0.2, None)
    assert notes(both) == {"top_p": "dropped"}
    assert body(call(top_p=0.5))["top_p"] == 0.5


def test_a_model_without_samplers_gets_none_and_defaults_are_no_news() -> None:
    model = "claude-opus-5-5"
    sampled = call(model=model, temperature=0.2, top_p=0.5, top_k=3)
    assert {"temperature", "top_p", "top_k"}.isdisjoint(body(sampled))
    assert notes(sampled) == {"temperature": "dropped", "top_p": "dropped", "top_k": "dropped"}
    assert notes(call(model=model, temperature=1, top_p=1)) == {}


def test_white_space_stops_are_dropped_and_reported() -> None:
    spaced = call(stop=["\n", "END"])
    assert body(spaced)["stop_sequences"] == ["END"]
    assert notes(spaced) == {"stop": "dropped"}


def test_what_claude_has_nothing_like_is_reported_and_harmless_zeros_are_not() -> None:
    asked = call(presence_penalty=1, frequency_penalty=0.5, seed=3, logprobs=True, top_logprobs=2)
    assert notes(asked) == dict.fromkeys(
        ("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "seed"), "dropped"
    )
    assert notes(call(presence_penalty=0, frequency_penalty=0, logprobs=False, n=1)) == {}


def test_several_answers_are_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        body(call(n=2))
    assert (caught.value.reason.name, caught.value.details) == ("UNSUPPORTED", {"param": "n"})


def test_the_strict_policy_refuses_what_lenient_reports() -> None:
    strict = call(seed=1)
    strict.translation_policy = chat_pb2.TRANSLATION_POLICY_STRICT
    with pytest.raises(GatewayError) as caught:
        body(strict)
    assert (caught.value.reason.name, caught.value.details) == ("TRANSLATION_REFUSED", {"param": "seed"})


def test_the_user_becomes_the_metadata() -> None:
    assert body(call(user="u-1"))["metadata"] == {"user_id": "u-1"}


def test_the_whole_prompt_may_be_marked_for_the_cache() -> None:
    assert body(call(cache_control={"type": "ephemeral"}))["cache_control"] == {"type": "ephemeral"}


# Fields of one dialect


def test_unknown_openai_fields_are_reported_at_each_level() -> None:
    asked = call(
        {"role": "user", "content": [text("Hello", odd=1)], "strange": 2},
        service_tier="auto",
        tools=[{"type": "function", "function": {"name": "f"}, "queer": 3}],
    )
    assert notes(asked) == dict.fromkeys(
        ("messages[0].content[0].odd", "messages[0].strange", "tools[0].queer", "service_tier"), "dropped"
    )


def test_fields_of_our_own_dialect_are_merged_at_each_level_and_keep_big_integers() -> None:
    own = call(tools=[{"type": "function", "function": {"name": "f"}}])
    own.dialect = message_pb2.DIALECT_ANTHROPIC_MESSAGES
    own.extra_json = b'{"service_tier":"standard_only","context_management":{"edits":[12345678901234567890123]}}'
    own.messages[0].parts[0].extra_json = b'{"citations":[{"type":"page_location"}]}'
    own.messages[0].extra_json = b'{"clear_at":"x"}'
    own.tools[0].extra_json = b'{"defer_loading":true}'
    raw = build(own, SETTINGS, stream=False)
    sent = json.loads(raw.body)
    assert sent["service_tier"] == "standard_only"
    assert b"12345678901234567890123" in raw.body
    assert sent["messages"][0] == {
        "role": "user",
        "content": [text("Hello", citations=[{"type": "page_location"}])],
        "clear_at": "x",
    }
    assert sent["tools"][0]["defer_loading"] is True
    assert raw.translation == []


def test_provider_options_are_merged_object_by_object_and_win() -> None:
    options = {"anthropic": {"thinking": {"display": "omitted"}, "service_tier": "auto"}, "gemini": {"x": 1}}
    sent = body(call(thinking={"type": "enabled", "budget_tokens": 2000}, provider_options=options))
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}
    assert sent["service_tier"] == "auto"
    assert "x" not in sent


def test_extras_change_neither_the_model_nor_the_form_of_the_answer() -> None:
    sent = body(call(provider_options={"anthropic": {"model": "dearer", "stream": True}}))
    assert (sent["model"], sent["stream"]) == (SONNET, False)


def test_provider_options_that_are_no_object_are_refused_by_name() -> None:
    asked = call()
    asked.provider_options["anthropic"] = b"[]"
    with pytest.raises(GatewayError) as caught:
        body(asked)
    assert caught.value.details == {"param": "provider_options.anthropic"}


def test_configured_fields_are_defaults_for_their_models() -> None:
    settings = ProviderSettings(
        "anthropic", "anthropic", "http://x", model_options={"claude-sonnet-*": {"service_tier": "standard_only"}}
    )
    assert body(call(), settings)["service_tier"] == "standard_only"
    assert "service_tier" not in body(call(model=OLD), settings)
    over = call(provider_options={"anthropic": {"service_tier": "auto"}})
    assert body(over, settings)["service_tier"] == "auto"
