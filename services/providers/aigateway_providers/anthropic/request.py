"""A chat call to the body of `POST /v1/messages`: pure, no I/O.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import orjson
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_providers.anthropic import splice, thinking, tools
from aigateway_providers.anthropic.blocks import DIALECT, PROVIDER, Blocks, cache_control
from aigateway_providers.anthropic.capabilities import claude
from aigateway_providers.anthropic.messages import Conversation
from aigateway_providers.anthropic.structured import structure
from aigateway_providers.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway.v1 import chat_pb2

    from aigateway_providers.settings import ProviderSettings


_V = TypeVar("_V")

_HEADERS: Final = {"anthropic_version": "anthropic-version", "anthropic_beta": "anthropic-beta"}
"""Fields of a body that stand for headers, as other hosts of Claude have them."""
_ANSWERING: Final = frozenset(
    {
        "max_tokens",
        "stream",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "metadata",
        "service_tier",
        "inference_geo",
        "container",
    }
)
"""Fields that matter to an answer only, which counting refuses."""
_names: Final[msgspec.json.Decoder[str | list[str] | None]] = msgspec.json.Decoder(str | list[str] | None)


@dataclass(frozen=True, slots=True)
class Request:
    """What to send, and what to remember for reading the answer."""

    body: bytes
    """JSON."""
    answer_tool: str
    """The tool whose input is the answer itself; empty when there is none."""
    translation: list[chat_pb2.TranslationNote]
    """What could not be carried as asked."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of this request alone."""
    own: bool = False
    """The caller speaks Anthropic's dialect, and so can be shown its raw events."""


def build(call: chat_pb2.ChatCall, settings: ProviderSettings, *, stream: bool) -> Request:
    """Translate `call`.

    Raises:
        GatewayError: the call has no meaning for Claude, or the policy is strict and something was not carried.
    """
    report = Report(call.translation_policy)
    body, answer_tool = _body(call, settings, report)
    headers = _headers(body)
    body |= {"model": call.model, "stream": stream}  # the router's and the rpc's choice, whatever the extras say
    return Request(orjson.dumps(body), answer_tool, report.settle(), headers, call.dialect == DIALECT)


def count(call: chat_pb2.ChatCall, settings: ProviderSettings) -> Request:
    """Translate `call` to the body of `POST /v1/messages/count_tokens`, which takes what makes up the prompt.

    https://platform.claude.com/docs/en/api/messages-count-tokens

    Raises:
        GatewayError: as `build` does.
    """
    report = Report(call.translation_policy)
    body, _ = _body(call, settings, report)
    headers = _headers(body)
    counted = {key: value for key, value in body.items() if key not in _ANSWERING} | {"model": call.model}
    return Request(orjson.dumps(counted), "", report.settle(), headers)


def _body(call: chat_pb2.ChatCall, settings: ProviderSettings, report: Report) -> tuple[dict[str, Any], str]:
    """All of the body but `stream`, and the tool that stands for the answer, if any."""
    facts = claude(call.model)
    if call.options.n > 1:
        raise GatewayError("UNSUPPORTED", "anthropic gives one answer per call; set `n` to 1", details={"param": "n"})
    conversation = Conversation(call.dialect, report)
    conversation.read(call.messages)
    form = structure(call, facts, report)
    if form.instruction:
        conversation.system.append({"type": "text", "text": form.instruction})

    body: dict[str, Any] = {"model": call.model, "max_tokens": _limit(call, settings)}
    if conversation.system:
        body["system"] = conversation.system
    body["messages"] = conversation.turns()
    answer_tool = _tools(body, call, form.tool, report)
    if form.format:
        body["output_config"] = {"format": form.format}
    if call.dialect == DIALECT:
        thinking.as_asked(body, call)
    else:
        thinking.apply(body, call, facts, report, limit_is_ours=not call.options.HasField("max_output_tokens"))
    _options(body, call, report)
    _extras(body, call, settings, report)
    return body, answer_tool


def _headers(body: dict[str, Any]) -> dict[str, str]:
    """Take the version and the beta features out of `body`, where the API does not look for them."""
    found: dict[str, str] = {}
    for name, header in _HEADERS.items():
        value = body.pop(name, None)
        if value is None:
            continue
        try:
            names = _names.decode(orjson.dumps(value))
        except msgspec.ValidationError as error:
            raise invalid(name, f"`{name}` must be a name or a list of names") from error
        text = names if isinstance(names, str) else ",".join(names or ())
        if not (text.isascii() and text.isprintable()):
            raise invalid(name, f"`{name}` holds characters that no name has")
        if text:
            found[header] = text
    return found


def _limit(call: chat_pb2.ChatCall, settings: ProviderSettings) -> int:
    """`max_tokens`, which Anthropic demands: the caller's, the configured one, or that of the model."""
    if call.options.HasField("max_output_tokens"):
        if call.options.max_output_tokens < 1 and call.dialect != DIALECT:
            param = "max_tokens" if call.options.legacy_max_tokens else "max_completion_tokens"
            raise invalid(param, f"`{param}` must be at least 1")
        return call.options.max_output_tokens
    configured = _by_model(call.model, settings.default_max_tokens)
    return configured if configured is not None else claude(call.model).default_output


def _by_model(model: str, table: Mapping[str, _V]) -> _V | None:
    named = (value for pattern, value in table.items() if pattern != "*" and fnmatchcase(model, pattern))
    return next(named, table.get("*"))


def _tools(body: dict[str, Any], call: chat_pb2.ChatCall, form_tool: dict[str, Any] | None, report: Report) -> str:
    """Set `tools` and `tool_choice`; answer the name of the tool that stands for the answer, if any."""
    facts = claude(call.model)
    none = call.tool_choice.mode == message_pb2.TOOL_CHOICE_MODE_NONE
    own = [] if form_tool and none else tools.tools(call, facts, report)
    answer_tool: str = form_tool["name"] if form_tool else ""
    offered = [*own, form_tool] if form_tool else own
    if offered:
        body["tools"] = offered
    choice = tools.choice(call, facts, report, answer_tool=answer_tool, any_tools=bool(own))
    if choice is not None:
        body["tool_choice"] = choice
    return answer_tool


def _options(body: dict[str, Any], call: chat_pb2.ChatCall, report: Report) -> None:
    options = call.options
    stops = [stop for stop in options.stop if stop.strip()]
    if len(stops) != len(options.stop):
        report.dropped("stop", "Claude takes no stop text of white space only")
    if stops:
        body["stop_sequences"] = stops
    if call.user:
        body["metadata"] = {"user_id": call.user}
    if call.HasField("cache_control"):
        body["cache_control"] = cache_control(call.cache_control)
    for name in ("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"):
        if options.HasField(name) and getattr(options, name):  # 0 and false ask for nothing
            report.dropped(name, "Claude has nothing like it")
    if options.HasField("seed"):
        report.dropped("seed", "Claude has nothing like it")


def _extras(body: dict[str, Any], call: chat_pb2.ChatCall, settings: ProviderSettings, report: Report) -> None:
    """What only Anthropic's own request has: configured fields, the caller's own dialect, then `provider_options`."""
    for key, value in (_by_model(call.model, settings.model_options) or {}).items():
        body.setdefault(key, value)
    blocks = Blocks(call.dialect, report)
    blocks.extras(body, call.extra_json, "")
    if call.response_format.extra_json:
        blocks.extras(body, call.response_format.extra_json, "response_format")
    for name in dict.fromkeys((PROVIDER, settings.name)):
        if name in call.provider_options:
            splice.merge(body, splice.caller_fields(call.provider_options[name], f"provider_options.{name}"))
