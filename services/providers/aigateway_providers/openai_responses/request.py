"""A chat call as the body of `POST /responses`; pure.

https://platform.openai.com/docs/api-reference/responses/create. The gateway keeps no state, and neither shall the
provider: `store` is false and reasoning comes back encrypted, unless the caller says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import splice
from aigateway_providers.openai_compat import families, formats
from aigateway_providers.openai_responses.items import ItemWriter
from aigateway_providers.openai_responses.models import reasons
from aigateway_providers.openai_responses.response import DIALECT
from aigateway_providers.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_providers.openai_compat.profiles import HostProfile
    from aigateway_providers.openai_responses.items import Json

FIXED: Final = frozenset({"model", "input", "stream"})
"""Fields that extra fields and provider options may not replace: routing and policies rest on them."""

_MODES: Final[Mapping[int, str]] = {
    message_pb2.TOOL_CHOICE_MODE_AUTO: "auto",
    message_pb2.TOOL_CHOICE_MODE_NONE: "none",
    message_pb2.TOOL_CHOICE_MODE_REQUIRED: "required",
}
_BUDGETS: Final = ((0, "none"), (4096, "low"), (16384, "medium"))
"""Reasoning tokens up to which an effort is the nearest; above the last it is `high`."""
_SHARED: Final = frozenset(
    {
        "metadata",
        "service_tier",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "moderation",
    }
)
"""Fields that Chat Completions and Responses have in common, name and meaning."""
_ENCRYPTED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"


def to_body(
    call: chat_pb2.ChatCall, profile: HostProfile, *, provider: str, stream: bool
) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """The request body, and what could not be carried.

    Raises:
        GatewayError: INVALID_REQUEST, UNSUPPORTED, or TRANSLATION_REFUSED under the strict policy.
    """
    report = Report(call.translation_policy)
    body = _RequestWriter(call, profile, report, provider).write()
    if options := call.provider_options.get(provider):
        splice.merge(body, options, f"provider_options.{provider}", refused=FIXED)
    if stream:
        body["stream"] = True
    return orjson.dumps(body), report.settle()


class _RequestWriter:
    def __init__(self, call: chat_pb2.ChatCall, profile: HostProfile, report: Report, provider: str) -> None:
        self._call = call
        self._profile = profile
        self._family = profile.family(call.model)
        self._report = report
        self._own = call.dialect == DIALECT
        self._items = ItemWriter(provider=provider, own=self._own, report=report)

    def write(self) -> Json:
        call = self._call
        instructions = self._instructions()
        messages = call.messages[1:] if instructions is not None else call.messages
        body: Json = {"model": call.model, "input": self._items.write(messages), "store": False}
        if instructions is not None:
            body["instructions"] = instructions
        effort = self._reasoning(body, call.reasoning) if call.HasField("reasoning") else ""
        if include := self._include(effort):
            body["include"] = include
        if call.HasField("options"):
            self._options(body, call.options)
            families.fix_sampling(body, self._family, effort, self._report)
        if call.tools:
            self._tools(body)
        if call.HasField("tool_choice"):
            self._tool_choice(body, call.tool_choice)
        if call.HasField("parallel_tool_calls"):
            body["parallel_tool_calls"] = call.parallel_tool_calls
        if call.HasField("response_format"):
            self._form(body)
        if call.user:
            body["user"] = call.user
        if call.HasField("cache_control"):
            self._report.dropped("cache_control", "this provider caches by itself")
        self._extra(body)
        return body

    def _instructions(self) -> str | None:
        """The caller's `instructions`: a first system message whose content has no shape; None when there are none."""
        first = self._call.messages[0] if self._own and self._call.messages else None
        if (
            first is None
            or first.role != message_pb2.ROLE_SYSTEM
            or first.content_shape != message_pb2.CONTENT_SHAPE_UNSPECIFIED
            or [part.WhichOneof("kind") for part in first.parts] != ["text"]
        ):
            return None
        return first.parts[0].text.text

    def _include(self, effort: str) -> list[str]:
        wanted = [_ENCRYPTED] if reasons(self._call.model) else []
        if self._own or not self._call.options.logprobs:
            return wanted
        if families.samples_freely(self._family, effort):
            return [*wanted, _LOGPROBS]
        self._report.dropped("logprobs", families.FIXED)
        return wanted

    def _options(self, body: Json, options: chat_pb2.GenerationOptions) -> None:
        if options.HasField("max_output_tokens"):
            body["max_output_tokens"] = options.max_output_tokens
        if options.HasField("temperature"):
            body["temperature"] = options.temperature
        if options.HasField("top_p"):
            body["top_p"] = options.top_p
        if options.HasField("top_logprobs"):
            body["top_logprobs"] = options.top_logprobs
        for field in ("top_k", "seed", "presence_penalty", "frequency_penalty"):
            if options.HasField(field):
                self._report.dropped(field, "the Responses API has nothing like it")
        if options.stop:
            self._report.dropped("stop", "the Responses API has nothing like it")
        if options.n > 1:
            raise GatewayError(
                "UNSUPPORTED", "the Responses API gives one answer only; leave out `n`", details={"param": "n"}
            )

    def _tools(self, body: Json) -> None:
        tools: list[Json | orjson.Fragment] = []
        for number, tool in enumerate(self._call.tools):
            field = f"tools[{number}]"
            if tool.HasField("cache_control"):
                self._report.dropped(f"{field}.cache_control")
            if tool.WhichOneof("kind") == "function":
                tools.append(self._function(tool, field))
            elif (custom := _chat_custom(tool.native)) is not None:
                tools.append(_flat(custom))
            elif (own := self._items.native(tool.native, field)) is not None:
                tools.append(own)
        if tools:
            body["tools"] = tools

    def _function(self, tool: message_pb2.Tool, field: str) -> Json:
        """One function. Responses is strict unless told otherwise, and the other dialects are not."""
        function = tool.function
        out: Json = {"type": "function", "name": function.name}
        if function.description:
            out["description"] = function.description
        if function.parameters_json:
            out["parameters"] = splice.fragment(function.parameters_json, f"{field}.parameters")
        elif not self._own:
            out["parameters"] = {"type": "object", "properties": {}}
        if function.HasField("strict") or not self._own:
            out["strict"] = function.strict
        self._items.carry(out, tool.extra_json, field)
        return out

    def _tool_choice(self, body: Json, choice: message_pb2.ToolChoice) -> None:
        if choice.HasField("native"):
            if (custom := _chat_custom(choice.native)) is not None:
                body["tool_choice"] = _flat(custom)
            elif (own := self._items.native(choice.native, "tool_choice")) is not None:
                body["tool_choice"] = own
            return
        mode = _MODES.get(choice.mode, "")
        if choice.named and choice.allowed_tools:
            body["tool_choice"] = {"type": "function", "name": choice.allowed_tools[0]}
        elif choice.allowed_tools and mode != "none":
            tools = [{"type": "function", "name": name} for name in choice.allowed_tools]
            body["tool_choice"] = {"type": "allowed_tools", "mode": mode or "auto", "tools": tools}
        elif mode:
            body["tool_choice"] = mode

    def _form(self, body: Json) -> None:
        if formats.takes(self._profile, self._call, tools="tools" in body):
            body["text"] = {"format": self._format(self._call.response_format)}
        elif formats.emulate(body, self._call, self._profile, self._report, said="input"):
            body["text"] = {"format": {"type": "json_object"}}

    def _format(self, form: chat_pb2.ResponseFormat) -> Json:
        out: Json
        match form.type:
            case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
                out = {"type": "json_schema", "name": form.name or "response"}
                if form.description:
                    out["description"] = form.description
                if form.schema_json:
                    out["schema"] = splice.fragment(form.schema_json, "response_format.json_schema.schema")
                if form.HasField("strict"):
                    out["strict"] = form.strict
            case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
                out = {"type": "json_object"}
            case _:
                out = {"type": "text"}
        self._items.carry(out, form.extra_json, "response_format")
        return out

    def _reasoning(self, body: Json, reasoning: chat_pb2.ReasoningOptions) -> str:
        """Say how the model shall reason; the effort, when one is asked for."""
        effort, field = reasoning.effort, "reasoning_effort"
        if not effort and reasoning.HasField("budget_tokens") and reasoning.budget_tokens >= 0:
            effort = next((word for limit, word in _BUDGETS if reasoning.budget_tokens <= limit), "high")
            field = "reasoning.max_tokens"
        shown = reasoning.summary or reasoning.include
        if self._profile.reasons(self._call.model) is False:
            families.drop_reasoning(effort, field, self._report)
            if shown:
                self._report.dropped("reasoning.summary", families.UNREASONING)
            return ""
        if field != "reasoning_effort" and reasoning.budget_tokens:
            self._report.emulated(field, f"by reasoning effort {effort}")
        effort = families.nearest_effort(effort, self._family, self._report)
        out: Json = {"effort": effort} if effort else {}
        if shown:
            out["summary"] = reasoning.summary or "auto"  # the reasoning itself is never shown
        if out:
            body["reasoning"] = out
        return effort

    def _extra(self, body: Json) -> None:
        if self._own:
            splice.merge(body, self._call.extra_json, "extra_json", refused=FIXED)
            return
        chat = self._call.dialect == message_pb2.DIALECT_OPENAI_CHAT
        for key, value in splice.members(self._call.extra_json, "extra_json").items():
            if chat and key in _SHARED:
                body[key] = orjson.Fragment(value)
            elif chat and key == "verbosity":
                splice.merge(body, b'{"text":{"verbosity":%b}}' % value, "extra_json")
            elif key != "stream_options":
                self._report.dropped(key)


def _chat_custom(part: message_pb2.NativePart) -> Json | None:
    """A custom tool, or the choice of one, as Chat Completions writes it; None when it is anything else."""
    if part.dialect != message_pb2.DIALECT_OPENAI_CHAT:
        return None
    try:
        found: Any = orjson.loads(part.json)
    except orjson.JSONDecodeError:
        return None
    custom = isinstance(found, dict) and found.get("type") == "custom" and found.get("custom")
    return custom if isinstance(custom, dict) else None


def _flat(custom: Json) -> Json:
    """The same in Responses, which nests neither the tool nor its grammar."""
    out: Json = {"type": "custom"} | custom
    form = out.get("format")
    if isinstance(form, dict) and isinstance(form.get("grammar"), dict):
        out["format"] = {"type": "grammar"} | form["grammar"]
    return out
