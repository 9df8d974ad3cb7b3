"""A chat call as the body of `POST /chat/completions`; pure, and the same for every host but for its profile.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import splice
from aigateway_providers.openai_compat import families, formats
from aigateway_providers.openai_compat.messages import DIALECT, MessageWriter
from aigateway_providers.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_providers.openai_compat.messages import Json
    from aigateway_providers.openai_compat.profiles import HostProfile

FIXED: Final = frozenset({"model", "messages", "stream"})
"""Fields that extra fields and provider options may not replace: routing and policies rest on them."""

_MODES: Final[Mapping[int, str]] = {
    message_pb2.TOOL_CHOICE_MODE_AUTO: "auto",
    message_pb2.TOOL_CHOICE_MODE_NONE: "none",
    message_pb2.TOOL_CHOICE_MODE_REQUIRED: "required",
}
_TEXT: Final = {"type": "text"}
_BUDGETS: Final = ((0, "none"), (4096, "low"), (16384, "medium"))
"""Reasoning tokens up to which an effort is the nearest; above the last it is `high`."""


def to_body(
    call: chat_pb2.ChatCall, profile: HostProfile, *, provider: str, stream: bool
) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """The request body, and what could not be carried.

    Raises:
        GatewayError: INVALID_REQUEST, UNSUPPORTED, or TRANSLATION_REFUSED under the strict policy.
    """
    report = Report(call.translation_policy)
    writer = _RequestWriter(call, profile, report)
    body = writer.write()
    if options := call.provider_options.get(provider):
        splice.merge(body, options, f"provider_options.{provider}", refused=FIXED)
    if profile.family(call.model).switch:
        _keep_reasoning_apart(body, report)
    if stream:
        body["stream"] = True
        _ask_for_usage(body)
    notes = report.settle()
    return orjson.dumps(body), notes


def _ask_for_usage(body: Json) -> None:
    """Usage is always wanted; the caller's other stream options stay."""
    options: Json = {}
    given = body.get("stream_options")
    if isinstance(given, orjson.Fragment):
        raw = orjson.dumps(given)
        if raw != b"null":
            splice.merge(options, raw, "stream_options")
    body["stream_options"] = options | {"include_usage": True}


def _keep_reasoning_apart(body: Json, report: Report) -> None:
    """Have reasoning written beside the answer, not into it, unless the caller said otherwise.

    https://console.groq.com/docs/reasoning: `include_reasoning` excludes `reasoning_format`, whose `raw` is refused
    beside tools and JSON.
    """
    given = orjson.dumps(body.get("reasoning_format"))
    if given == b"null" and "include_reasoning" not in body:
        if body.get("reasoning_effort") != "none":
            body["reasoning_format"] = "parsed"
    elif given == b'"raw"' and ("tools" in body or body.get("response_format", _TEXT) != _TEXT):
        report.clamped("reasoning_format", "raw to parsed, which tools and JSON need")
        body["reasoning_format"] = "parsed"


class _RequestWriter:
    def __init__(self, call: chat_pb2.ChatCall, profile: HostProfile, report: Report) -> None:
        self._call = call
        self._profile = profile
        self._family = profile.family(call.model)
        self._report = report
        self._own = call.dialect == DIALECT
        self._messages = MessageWriter(profile, model=call.model, own=self._own, report=report)

    def write(self) -> Json:
        call = self._call
        body: Json = {"model": call.model, "messages": self._messages.write(call.messages)}
        if call.HasField("options"):
            self._options(body, call.options)
        if call.tools:
            self._tools(body)
        if call.HasField("tool_choice"):
            self._tool_choice(body, call.tool_choice)
        if call.HasField("parallel_tool_calls"):
            body["parallel_tool_calls"] = call.parallel_tool_calls
        if call.HasField("response_format"):
            self._response_format(body, call.response_format)
        if call.HasField("reasoning"):
            self._reasoning(body, call.reasoning)
        if call.user:
            body["user"] = call.user
        if call.HasField("cache_control"):
            self._report.dropped("cache_control", "this provider caches by itself")
        self._extra(body)
        effort = body.get("reasoning_effort", "")
        families.fix_sampling(body, self._family, effort if isinstance(effort, str) else "", self._report)
        return body

    def _options(self, body: Json, options: chat_pb2.GenerationOptions) -> None:
        if options.HasField("max_output_tokens"):
            body[self._limit_field(options)] = options.max_output_tokens
        if options.HasField("temperature"):
            body["temperature"] = options.temperature
        if options.HasField("top_p"):
            body["top_p"] = options.top_p
        if options.HasField("top_k"):
            self._report.dropped("top_k")
        if options.stop:
            body["stop"] = list(options.stop) if options.stop_is_list or len(options.stop) > 1 else options.stop[0]
        if options.HasField("seed"):
            body["seed"] = options.seed
        if options.HasField("presence_penalty"):
            body["presence_penalty"] = options.presence_penalty
        if options.HasField("frequency_penalty"):
            body["frequency_penalty"] = options.frequency_penalty
        self._alternatives(body, options)

    def _limit_field(self, options: chat_pb2.GenerationOptions) -> str:
        if options.legacy_max_tokens and not self._call.model.startswith(self._profile.completion_tokens_only or "\0"):
            return "max_tokens"
        return "max_completion_tokens"

    def _alternatives(self, body: Json, options: chat_pb2.GenerationOptions) -> None:
        if options.HasField("n"):
            if options.n > 1 and not self._profile.several:
                raise GatewayError(
                    "UNSUPPORTED", "this provider gives one answer only; leave out `n`", details={"param": "n"}
                )
            body["n"] = options.n
        if options.HasField("logprobs"):
            self._optional(body, "logprobs", options.logprobs)
        if options.HasField("top_logprobs"):
            self._optional(body, "top_logprobs", options.top_logprobs)

    def _optional(self, body: Json, field: str, value: int) -> None:
        if field not in self._profile.unsupported:
            body[field] = value
        elif value:
            self._report.dropped(field)

    def _tools(self, body: Json) -> None:
        tools: list[Json | orjson.Fragment] = []
        for number, tool in enumerate(self._call.tools):
            field = f"tools[{number}]"
            if tool.HasField("cache_control"):
                self._report.dropped(f"{field}.cache_control")
            if tool.WhichOneof("kind") == "native":
                if (own := self._messages.native(tool.native, field)) is not None:
                    tools.append(own)
            elif self._offered(tool.function.name):
                tools.append(self._function(tool, field))
        if tools:
            body["tools"] = tools

    def _offered(self, name: str) -> bool:
        """Whether the tool is among the allowed ones, on a host that is told so by leaving out the others."""
        choice = self._call.tool_choice
        return self._profile.allowed_tools or choice.named or not choice.allowed_tools or name in choice.allowed_tools

    def _function(self, tool: message_pb2.Tool, field: str) -> Json:
        function: Json = {"name": tool.function.name}
        if tool.function.description:
            function["description"] = tool.function.description
        if tool.function.parameters_json:
            function["parameters"] = splice.fragment(tool.function.parameters_json, f"{field}.function.parameters")
        if tool.function.HasField("strict"):
            function["strict"] = tool.function.strict
        out: Json = {"type": "function", "function": function}
        self._messages.carry(out, tool.extra_json, field)
        return out

    def _tool_choice(self, body: Json, choice: message_pb2.ToolChoice) -> None:
        if choice.HasField("native"):
            if (own := self._messages.native(choice.native, "tool_choice")) is not None:
                body["tool_choice"] = own
            return
        mode = _MODES.get(choice.mode, "")
        if choice.named and choice.allowed_tools:
            body["tool_choice"] = {"type": "function", "function": {"name": choice.allowed_tools[0]}}
        elif choice.allowed_tools and mode != "none":
            self._allowed_tools(body, choice, mode or "auto")
        elif mode:
            body["tool_choice"] = mode

    def _allowed_tools(self, body: Json, choice: message_pb2.ToolChoice, mode: str) -> None:
        if not self._profile.allowed_tools:
            self._report.emulated("tool_choice.allowed_tools", "by sending only those tools")
            body["tool_choice"] = mode
            return
        tools = [{"type": "function", "function": {"name": name}} for name in choice.allowed_tools]
        body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}

    def _response_format(self, body: Json, form: chat_pb2.ResponseFormat) -> None:
        if formats.takes(self._profile, self._call, tools="tools" in body):
            out = formats.write(form, self._profile, self._call.model, self._report)
            self._messages.carry(out, form.extra_json, "response_format")
            body["response_format"] = out
        elif formats.emulate(body, self._call, self._profile, self._report, said="messages"):
            body["response_format"] = {"type": "json_object"}

    def _reasoning(self, body: Json, reasoning: chat_pb2.ReasoningOptions) -> None:
        effort, field = reasoning.effort, "reasoning_effort"
        if not effort and reasoning.HasField("budget_tokens") and reasoning.budget_tokens >= 0:
            effort = next((word for limit, word in _BUDGETS if reasoning.budget_tokens <= limit), "high")
            field = "reasoning.max_tokens"
        if reasoning.summary:
            self._report.dropped("reasoning.summary")
        if self._profile.reasons(self._call.model) is False:
            families.drop_reasoning(effort, field, self._report)
            if reasoning.include:
                self._report.dropped("reasoning.include", families.UNREASONING)
            return
        if field != "reasoning_effort" and reasoning.budget_tokens:
            self._report.emulated(field, f"by `reasoning_effort` {effort}")
        if effort := families.nearest_effort(effort, self._family, self._report):
            body["reasoning_effort"] = effort
        if reasoning.HasField("include"):
            self._shown(body, included=reasoning.include)

    def _shown(self, body: Json, *, included: bool) -> None:
        if not self._profile.shows_reasoning:
            if included:
                self._report.dropped("reasoning.include", "this provider does not show its reasoning")
        elif not self._family.switch:
            body["include_reasoning"] = included
        elif not included:
            body["reasoning_format"] = "hidden"

    def _extra(self, body: Json) -> None:
        if not self._call.extra_json:
            return
        if not self._own:
            for key in splice.members(self._call.extra_json, "extra_json"):
                self._report.dropped(key)
            return
        splice.merge(body, self._call.extra_json, "extra_json", refused=FIXED)
        for field in self._profile.unsupported:
            if body.pop(field, None) is not None:
                self._report.dropped(field)
