"""What of reasoning, sampling and the answer's form is sent to the models we know, and that all else is left alone.

https://platform.openai.com/docs/guides/reasoning, https://console.groq.com/docs/reasoning and
https://console.groq.com/docs/structured-outputs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common import model_facts
from aigateway_common.errors import GatewayError
from aigateway_providers.openai_compat import families
from aigateway_providers.openai_compat.profiles import PROFILES, profile_of
from aigateway_providers.openai_compat.request import to_body
from aigateway_providers.openai_responses.request import to_body as responses_body

CHAT = message_pb2.DIALECT_OPENAI_CHAT
ACTIONS = {1: "dropped", 2: "clamped", 3: "emulated"}
SCHEMA = b'{"type":"object","properties":{"city":{"type":"string"}}}'
FORM = chat_pb2.ResponseFormat(
    type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="place", schema_json=SCHEMA, strict=True
)
OBJECT = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
TOOL = message_pb2.Tool(function=message_pb2.FunctionTool(name="f"))
UNUSUAL = chat_pb2.GenerationOptions(
    temperature=0.5, top_p=0.5, presence_penalty=1, frequency_penalty=1, logprobs=True, top_logprobs=2
)
SAMPLING = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"]


def asked(model: str, **fields: Any) -> chat_pb2.ChatCall:
    hi = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Hi"))])
    return chat_pb2.ChatCall(model=model, **({"messages": [hi]} | fields))


def sent(
    host: str, call: chat_pb2.ChatCall, *, url: str = "", stream: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The body but for the model, and the report."""
    profile = profile_of(host, url) if url else PROFILES[host]
    body, notes = to_body(call, profile, provider=host, stream=stream)
    found: dict[str, Any] = json.loads(body)
    del found["model"]
    return found, [f"{note.field} {ACTIONS[note.action]}" for note in notes]


def options(host: str, call: chat_pb2.ChatCall, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """The same without the messages."""
    body, notes = sent(host, call, **more)
    del body["messages"]
    return body, notes


def by_responses(call: chat_pb2.ChatCall) -> tuple[dict[str, Any], list[str]]:
    body, notes = responses_body(call, PROFILES["openai"], provider="openai", stream=False)
    return json.loads(body), [f"{note.field} {ACTIONS[note.action]}" for note in notes]


def effort(word: str, **more: Any) -> chat_pb2.ReasoningOptions:
    return chat_pb2.ReasoningOptions(effort=word, **more)


def refused(host: str, call: chat_pb2.ChatCall) -> tuple[str, str]:
    call.translation_policy = chat_pb2.TRANSLATION_POLICY_STRICT
    with pytest.raises(GatewayError) as caught:
        sent(host, call)
    return caught.value.reason.name, caught.value.details["param"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "model", ["qwen/qwen3-32b", "qwen/qwen3.6-27b", "deepseek-r1-distill-llama-70b", "qwen-qwq-32b"]
)
def test_a_plain_call_to_a_groq_model_that_thinks_aloud_keeps_its_thoughts_out_of_the_text(
    model: str, *, stream: bool
) -> None:
    body, notes = options("groq", asked(model), stream=stream)
    assert (body["reasoning_format"], notes) == ("parsed", [])


@pytest.mark.parametrize(
    "model", ["openai/gpt-oss-20b", "llama-3.3-70b-versatile", "moonshotai/kimi-k2-instruct-0905", "new/model-1"]
)
def test_groq_models_that_need_not_be_told_are_sent_no_reasoning_format(model: str) -> None:
    assert options("groq", asked(model)) == ({}, [])


@pytest.mark.parametrize(
    "said",
    [{"reasoning_format": "raw"}, {"reasoning_format": "hidden"}, {"include_reasoning": False}],
    ids=["raw", "hidden", "left-out"],
)
@pytest.mark.parametrize("where", ["extra", "options"])
def test_what_the_caller_says_of_the_reasoning_format_wins(said: dict[str, Any], where: str) -> None:
    fields: dict[str, Any] = {"dialect": CHAT, "extra_json": json.dumps(said).encode()}
    if where == "options":
        fields = {"provider_options": {"groq": json.dumps(said).encode()}}
    assert options("groq", asked("qwen/qwen3-32b", **fields)) == (said, [])


@pytest.mark.parametrize("fields", [{"tools": [TOOL]}, {"response_format": OBJECT}], ids=["tools", "json"])
def test_raw_reasoning_beside_tools_or_json_is_parsed_and_said(fields: dict[str, Any]) -> None:
    call = asked("qwen/qwen3-32b", dialect=CHAT, extra_json=b'{"reasoning_format":"raw"}', **fields)
    body, notes = options("groq", call)
    assert (body["reasoning_format"], notes) == ("parsed", ["reasoning_format clamped"])
    assert refused("groq", call) == ("TRANSLATION_REFUSED", "reasoning_format")


@pytest.mark.parametrize(
    ("model", "word", "written", "noted"),
    [
        ("openai/gpt-oss-120b", "none", "low", True),
        ("openai/gpt-oss-120b", "minimal", "low", True),
        ("openai/gpt-oss-120b", "medium", "medium", False),
        ("openai/gpt-oss-120b", "xhigh", "high", True),
        ("openai/gpt-oss-120b", "default", None, False),
        ("qwen/qwen3-32b", "none", "none", False),
        ("qwen/qwen3-32b", "default", "default", False),
        ("qwen/qwen3-32b", "low", "default", True),
        ("new/model-1", "xhigh", "xhigh", False),
    ],
)
def test_groq_is_asked_for_an_effort_that_the_family_has(
    model: str, word: str, written: str | None, *, noted: bool
) -> None:
    call = asked(model, reasoning=effort(word))
    body, notes = options("groq", call)
    assert (body.get("reasoning_effort"), notes) == (written, ["reasoning_effort clamped"] * noted)
    if noted:
        assert refused("groq", call) == ("TRANSLATION_REFUSED", "reasoning_effort")


@pytest.mark.parametrize(
    ("model", "word", "written"),
    [
        ("o3-mini", "minimal", "low"),
        ("gpt-5-mini", "none", "minimal"),
        ("gpt-5.1", "xhigh", "high"),
        ("gpt-5.2", "max", "xhigh"),
    ],
)
def test_openai_is_asked_for_an_effort_that_the_family_has(model: str, word: str, written: str) -> None:
    body, notes = options("openai", asked(model, reasoning=effort(word)))
    assert (body, notes) == ({"reasoning_effort": written}, ["reasoning_effort clamped"])


@pytest.mark.parametrize(
    ("host", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4.1-2025-04-14"),
        ("openai", "gpt-5-chat-latest"),
        ("groq", "llama-3.3-70b-versatile"),
        ("groq", "meta-llama/llama-4-scout-17b-16e-instruct"),
    ],
)
def test_a_model_that_does_not_reason_is_not_told_how_much_to_and_the_caller_is(host: str, model: str) -> None:
    call = asked(model, reasoning=effort("high"))
    assert options(host, call) == ({}, ["reasoning_effort dropped"])
    assert refused(host, call) == ("TRANSLATION_REFUSED", "reasoning_effort")
    budget = asked(model, reasoning=chat_pb2.ReasoningOptions(budget_tokens=9000, include=True))
    assert options(host, budget) == ({}, ["reasoning.max_tokens dropped", "reasoning.include dropped"])


@pytest.mark.parametrize("asked_for", [effort("none"), chat_pb2.ReasoningOptions(budget_tokens=0, include=False)])
def test_no_reasoning_is_what_a_model_without_it_gives_so_nothing_is_lost(
    asked_for: chat_pb2.ReasoningOptions,
) -> None:
    assert options("openai", asked("gpt-4o", reasoning=asked_for)) == ({}, [])
    assert options("groq", asked("llama-3.1-8b-instant", reasoning=asked_for)) == ({}, [])


@pytest.mark.parametrize("included", [True, False])
def test_a_groq_model_nobody_knows_is_told_to_show_or_hide_its_reasoning_as_all_take_it(*, included: bool) -> None:
    call = asked("new/model-1", reasoning=chat_pb2.ReasoningOptions(include=included))
    assert options("groq", call) == ({"include_reasoning": included}, [])


@pytest.mark.parametrize("model", ["o1", "o3-mini-2025-01-31", "gpt-5", "gpt-5-nano-2025-08-07"])
def test_sampling_that_a_reasoning_model_refuses_is_left_out_and_said(model: str) -> None:
    call = asked(model, options=UNUSUAL, dialect=CHAT, extra_json=b'{"logit_bias":{"1":2}}')
    assert options("openai", call) == ({}, [f"{field} dropped" for field in [*SAMPLING, "logit_bias"]])
    assert refused("openai", call) == ("TRANSLATION_REFUSED", "temperature")


def test_default_sampling_goes_unsaid_and_is_no_loss() -> None:
    usual = chat_pb2.GenerationOptions(
        temperature=1, top_p=1, presence_penalty=0, frequency_penalty=0, logprobs=False, seed=3
    )
    call = asked("o3-mini", options=usual, dialect=CHAT, extra_json=b'{"logit_bias":null}')
    assert options("openai", call) == ({"seed": 3}, [])


@pytest.mark.parametrize("model", ["gpt-5.1", "gpt-5.2-2025-12-11", "gpt-5.4"])
def test_models_that_may_stop_reasoning_take_sampling_while_they_do_not(model: str) -> None:
    warm = chat_pb2.GenerationOptions(temperature=0.5)
    free = asked(model, options=warm)
    assert options("openai", free) == ({"temperature": 0.5}, [])
    none = asked(model, options=warm, reasoning=effort("none"))
    assert options("openai", none) == ({"temperature": 0.5, "reasoning_effort": "none"}, [])
    reasoning = asked(model, options=warm, reasoning=effort("low"))
    assert options("openai", reasoning) == ({"reasoning_effort": "low"}, ["temperature dropped"])


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-chat-latest", "gpt-5.7", "ft:gpt-5:acme::1", "muse-spark-1.1"])
def test_models_that_take_sampling_or_that_nobody_knows_get_all_of_it(model: str) -> None:
    body, notes = options("openai", asked(model, options=UNUSUAL))
    assert (sorted(body), notes) == (sorted(SAMPLING), [])


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5", "o3-mini"])
def test_behind_another_address_a_name_says_nothing_of_the_model(model: str) -> None:
    call = asked(model, options=UNUSUAL, reasoning=effort("max"))
    body, notes = options("openai", call, url="http://vllm.internal:8000/v1")
    assert (sorted(body), notes) == (sorted([*SAMPLING, "reasoning_effort"]), [])


@pytest.mark.parametrize(
    ("kind", "url", "own"),
    [
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "https://eu.api.openai.com/v1", True),
        ("openai", "https://openai.com.example.org/v1", False),
        ("openai", "https://notopenai.com/v1", False),
        ("openai", "https://acme.openai.azure.com/openai/v1", False),
        ("openai", "", False),
        ("groq", "https://api.groq.com", True),
        ("groq", "http://proxy.internal", True),
    ],
)
def test_a_hosts_models_are_known_at_its_own_addresses_and_groqs_wherever_it_is_said_to_be_groq(
    kind: str, url: str, *, own: bool
) -> None:
    profile = profile_of(kind, url)
    assert (bool(profile.families), bool(profile.facts)) == (own, own)
    assert profile.completion_tokens_only == PROFILES[kind].completion_tokens_only


@pytest.mark.parametrize("host", ["openai", "groq"])
def test_the_families_and_the_facts_agree_on_what_reasons(host: str) -> None:
    known = [name for row in model_facts.table()[host] if row.reasoning is False for name in row.models]
    assert [name for name in known if PROFILES[host].family(name) is not families.UNKNOWN] == []


@pytest.mark.parametrize(
    ("model", "strict"),
    [
        ("openai/gpt-oss-20b", True),
        ("openai/gpt-oss-120b", True),
        ("openai/gpt-oss-safeguard-20b", False),
        ("moonshotai/kimi-k2-instruct-0905", False),
        ("meta-llama/llama-4-scout-17b-16e-instruct", False),
    ],
)
def test_groq_models_that_follow_schemas_are_sent_them_and_strict_only_where_it_is_taken(
    model: str, *, strict: bool
) -> None:
    call = asked(model, response_format=FORM)
    body, notes = options("groq", call)
    schema = {"name": "place", "schema": json.loads(SCHEMA), "strict": strict}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert notes == ([] if strict else ["response_format.json_schema.strict clamped"])
    if not strict:
        assert refused("groq", call) == ("TRANSLATION_REFUSED", "response_format.json_schema.strict")


@pytest.mark.parametrize("model", ["llama-3.3-70b-versatile", "qwen/qwen3-32b", "new/model-1"])
def test_groq_models_that_follow_no_schema_are_told_it_and_asked_for_an_object(model: str) -> None:
    system = message_pb2.Message(
        role=message_pb2.ROLE_DEVELOPER, parts=[message_pb2.Part(text=message_pb2.TextPart(text="Be brief."))]
    )
    call = asked(model, response_format=FORM)
    call.messages.insert(0, system)
    body, notes = sent("groq", call)
    assert body["response_format"] == {"type": "json_object"}
    first, told, user = body["messages"]
    assert (first, user) == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert told["role"] == "system"
    assert "JSON" in told["content"]
    assert SCHEMA.decode() in told["content"]
    assert notes == ["response_format emulated"]
    assert refused("groq", call) == ("TRANSLATION_REFUSED", "response_format")


@pytest.mark.parametrize("model", ["gpt-3.5-turbo", "gpt-4-turbo", "gpt-4-0125-preview", "gpt-4o-2024-05-13"])
def test_openai_models_that_follow_no_schema_are_told_it_and_asked_for_an_object(model: str) -> None:
    rule = message_pb2.Part(text=message_pb2.TextPart(text="Be brief."))
    call = asked(model, response_format=FORM, tools=[TOOL])
    call.messages.insert(0, message_pb2.Message(role=message_pb2.ROLE_DEVELOPER, parts=[rule]))
    body, notes = sent("openai", call)
    assert body["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in body["messages"]] == ["developer", "system", "user"]
    told = body["messages"][1]["content"]
    assert ("JSON" in told, SCHEMA.decode() in told) == (True, True)
    assert (len(body["tools"]), notes) == (1, ["response_format emulated"])
    assert refused("openai", call) == ("TRANSLATION_REFUSED", "response_format")


@pytest.mark.parametrize("form", [FORM, OBJECT], ids=["schema", "object"])
@pytest.mark.parametrize("model", ["gpt-4", "gpt-4-0613"])
def test_gpt_4_has_no_json_mode_so_json_is_asked_for_in_words_alone(model: str, form: chat_pb2.ResponseFormat) -> None:
    call = asked(model, response_format=form)
    body, notes = sent("openai", call)
    assert "response_format" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert (SCHEMA.decode() in body["messages"][0]["content"]) == (form is FORM)
    assert notes == ["response_format emulated"]
    assert refused("openai", call) == ("TRANSLATION_REFUSED", "response_format")


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "gpt-5", "o3-mini", "gpt-5-chat-latest", "new-model"])
def test_openai_models_that_follow_schemas_or_that_nobody_knows_are_sent_them_as_they_are(model: str) -> None:
    body, notes = options("openai", asked(model, response_format=FORM))
    schema = {"name": "place", "schema": json.loads(SCHEMA), "strict": True}
    assert (body["response_format"], notes) == ({"type": "json_schema", "json_schema": schema}, [])


@pytest.mark.parametrize("model", ["gpt-3.5-turbo", "gpt-4", "gpt-4-turbo"])
def test_a_schema_goes_as_it_is_to_a_model_of_an_old_name_behind_another_address(model: str) -> None:
    body, notes = options("openai", asked(model, response_format=FORM), url="http://vllm.internal:8000/v1")
    assert (body["response_format"]["type"], notes) == ("json_schema", [])


@pytest.mark.parametrize("model", ["gpt-3.5-turbo", "gpt-4"])
def test_a_caller_of_responses_gets_the_same_from_models_that_follow_no_schema(model: str) -> None:
    call = asked(model, response_format=FORM, dialect=message_pb2.DIALECT_OPENAI_RESPONSES)
    body, notes = by_responses(call)
    assert body.get("text") == (None if model == "gpt-4" else {"format": {"type": "json_object"}})
    told, user = body["input"]
    assert (told["role"], SCHEMA.decode() in told["content"], user["role"]) == ("system", True, "user")
    assert notes == ["response_format emulated"]
    known = asked("gpt-4o", response_format=FORM, dialect=message_pb2.DIALECT_OPENAI_RESPONSES)
    assert by_responses(known)[0]["text"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize("form", [FORM, OBJECT], ids=["schema", "object"])
@pytest.mark.parametrize("model", ["openai/gpt-oss-20b", "llama-3.3-70b-versatile"])
def test_beside_tools_which_groq_takes_no_format_with_json_is_asked_for_in_words(
    model: str, form: chat_pb2.ResponseFormat
) -> None:
    body, notes = sent("groq", asked(model, response_format=form, tools=[TOOL]))
    assert "response_format" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert notes == ["response_format emulated"]


def test_a_schema_that_is_no_json_is_refused_when_it_is_told_too() -> None:
    broken = chat_pb2.ResponseFormat(type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, schema_json=b"{}}")
    with pytest.raises(GatewayError) as caught:
        sent("groq", asked("llama-3.3-70b-versatile", response_format=broken))
    assert caught.value.details["param"] == "response_format.json_schema.schema"
