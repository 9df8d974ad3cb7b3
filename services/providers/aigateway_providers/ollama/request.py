"""Neutral calls to Ollama's request bodies: `/api/chat` and `/api/embed`.

Pure. Ollama splits what OpenAI has on one level: sampling goes into `options`, while `format`, `think`, `keep_alive`
and `logprobs` stand beside it (https://docs.ollama.com/api/chat). Not for messages: see `messages.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import orjson
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_providers.ollama.body import json_object, merge, merge_mapping, report_members
from aigateway_providers.ollama.messages import to_messages, tool_definition
from aigateway_providers.ollama.window import Window
from aigateway_providers.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aigateway_providers.settings import ProviderSettings

_CHAT_FIELDS: Final = frozenset(
    {"keep_alive", "think", "format", "truncate", "shift", "logprobs", "top_logprobs", "options"}
)
_EMBED_FIELDS: Final = frozenset({"keep_alive", "truncate", "dimensions", "options"})
"""Request fields that stand beside `options`; every other name in `model_options` is an option."""

_EFFORTS: Final[Mapping[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "max",
}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request ready to be sent, and what reading its answer takes."""

    body: bytes
    notes: list[chat_pb2.TranslationNote]
    hide_thinking: bool
    """The caller does not want to see the reasoning, and Ollama cannot be told."""
    window: Window
    """The context window that the prompt has to fit in."""


def chat_request(
    call: chat_pb2.ChatCall, settings: ProviderSettings, *, stream: bool, loaded_num_ctx: int | None = None
) -> ChatRequest:
    """The body of `/api/chat`; `loaded_num_ctx` is the window that the model was last seen loaded with.

    Raises:
        GatewayError: INVALID_REQUEST, UNSUPPORTED or TRANSLATION_REFUSED, naming the field.
    """
    report = Report(call.translation_policy)
    messages = to_messages(call, report)
    body: dict[str, object] = {"model": call.model, "messages": messages}
    if tools := _tools(call, report):
        body["tools"] = tools
    body["options"] = {}
    merge_mapping(body, _configured(call.model, settings, _CHAT_FIELDS))
    _options(call.options, body)
    _format(call, settings, body, report)
    hide_thinking = _think(call.reasoning, body, report)
    _report_rest(call, report)
    _merge_own(call, settings.name, body, report)
    _refuse_to_cut(call.translation_policy, body)
    window = _window(messages, body["options"], loaded_num_ctx)
    if not body["options"]:
        del body["options"]
    body["stream"] = stream
    return ChatRequest(orjson.dumps(body), report.settle(), hide_thinking, window)


def embed_request(
    call: embedding_pb2.EmbedCall, settings: ProviderSettings
) -> tuple[bytes, list[chat_pb2.TranslationNote]]:
    """The body of `/api/embed`, and the report.

    Raises:
        GatewayError: UNSUPPORTED for token ids; INVALID_REQUEST; TRANSLATION_REFUSED.
    """
    report = Report(call.translation_policy)
    texts = list(_texts(call.inputs))
    body: dict[str, object] = {
        "model": call.model,
        "input": texts[0] if call.single_input and len(texts) == 1 else texts,
        "options": {},
    }
    merge_mapping(body, _configured(call.model, settings, _EMBED_FIELDS))
    if call.HasField("dimensions"):
        body["dimensions"] = call.dimensions
    if call.user:
        report.dropped("user", "Ollama has no end users")
    _merge_own(call, settings.name, body, report)
    _refuse_to_cut(call.translation_policy, body)
    if not body["options"]:
        del body["options"]
    return orjson.dumps(body), report.settle()


def _texts(inputs: Iterable[embedding_pb2.EmbeddingInput]) -> Iterable[str]:
    for number, item in enumerate(inputs):
        if item.WhichOneof("kind") != "text":
            raise GatewayError(
                "UNSUPPORTED",
                "Ollama embeds text and takes no token ids; send strings",
                details={"param": f"input[{number}]"},
            )
        yield item.text


def _configured(model: str, settings: ProviderSettings, beside: frozenset[str]) -> dict[str, object]:
    """What the configuration says for `model`, ready to be merged; the longest pattern has the last word."""
    options: dict[str, object] = {}
    fields: dict[str, object] = {"options": options}
    for pattern in sorted(settings.model_options, key=len):
        if fnmatchcase(model, pattern):
            for name, value in settings.model_options[pattern].items():
                if name in beside:
                    merge_mapping(fields, {name: value})
                elif name not in _CHAT_FIELDS | _EMBED_FIELDS:
                    merge_mapping(options, {name: value})
    return fields


def _options(asked: chat_pb2.GenerationOptions, body: dict[str, object]) -> None:
    if asked.n > 1:
        raise GatewayError("UNSUPPORTED", "Ollama gives one answer a call; send `n` calls", details={"param": "n"})
    options = body["options"]
    assert isinstance(options, dict)  # noqa: S101 - made two lines above every call
    if asked.HasField("max_output_tokens"):
        options["num_predict"] = asked.max_output_tokens
    for name in ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"):
        if asked.HasField(name):
            options[name] = getattr(asked, name)
    if asked.stop:
        options["stop"] = list(asked.stop)
    if asked.logprobs:
        body["logprobs"] = True
        if asked.HasField("top_logprobs"):
            body["top_logprobs"] = asked.top_logprobs


def _tools(call: chat_pb2.ChatCall, report: Report) -> list[object]:
    choice = call.tool_choice
    if choice.HasField("native"):
        report.dropped("tool_choice", "only its own provider understands it")
    if call.HasField("parallel_tool_calls") and not call.parallel_tool_calls:
        report.dropped("parallel_tool_calls", "Ollama leaves it to the model")
    if choice.mode == message_pb2.TOOL_CHOICE_MODE_NONE:
        return []
    _report_choice(choice, report)
    wanted = _allowed(call)
    tools: list[object] = []
    for number, tool in enumerate(call.tools):
        path = f"tools[{number}]"
        if wanted and not (tool.WhichOneof("kind") == "function" and tool.function.name in wanted):
            continue
        if (entry := _tool(tool, path, call.dialect, report)) is not None:
            tools.append(entry)
    return tools


def _report_choice(choice: message_pb2.ToolChoice, report: Report) -> None:
    if choice.named or (choice.mode == message_pb2.TOOL_CHOICE_MODE_REQUIRED and len(choice.allowed_tools) == 1):
        report.emulated("tool_choice", "only that tool is offered; Ollama cannot force a call")
    elif choice.mode == message_pb2.TOOL_CHOICE_MODE_REQUIRED:
        report.dropped("tool_choice", "Ollama cannot force a call")


def _allowed(call: chat_pb2.ChatCall) -> frozenset[str]:
    wanted = frozenset(call.tool_choice.allowed_tools)
    offered = {tool.function.name for tool in call.tools if tool.HasField("function")}
    if missing := wanted - offered:
        raise invalid("tool_choice", f"`tool_choice` names `{min(missing)}`, which is not among `tools`")
    return wanted


def _tool(tool: message_pb2.Tool, path: str, dialect: message_pb2.Dialect.ValueType, report: Report) -> object | None:
    own = dialect == message_pb2.DIALECT_OLLAMA
    if tool.HasField("cache_control"):
        report.dropped(f"{path}.cache_control", "Ollama caches prompts by itself")
    if tool.WhichOneof("kind") == "native":
        if tool.native.dialect == message_pb2.DIALECT_OLLAMA:
            return json_object(tool.native.json, path)
        report.dropped(path, "only its own provider understands it")
        return None
    entry = tool_definition(tool, path, report)
    if own and tool.extra_json:
        merge(entry, tool.extra_json, path)
    elif tool.extra_json:
        report_members(report, tool.extra_json, f"{path}.")
    return entry


def _format(call: chat_pb2.ChatCall, settings: ProviderSettings, body: dict[str, object], report: Report) -> None:
    asked = call.response_format
    match asked.type:
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
            body["format"] = "json"
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
            param = "response_format.json_schema"
            body["format"] = json_object(asked.schema_json, f"{param}.schema") if asked.schema_json else "json"
            if asked.description:
                report.dropped(f"{param}.description", "Ollama takes the schema alone")
        case _:
            return
    report_members(report, asked.extra_json, "response_format.")
    if _in_the_cloud(call.model, settings.base_url):
        report.dropped("response_format", "Ollama's cloud models do not follow `format`")


def _in_the_cloud(model: str, base_url: str) -> bool:
    """Whether a model runs at ollama.com: asked there, or through a local server by its tag (`gpt-oss:120b-cloud`).

    https://docs.ollama.com/cloud
    """
    host = base_url.rsplit("://", maxsplit=1)[-1].split("/", maxsplit=1)[0]
    return host == "ollama.com" or host.endswith(".ollama.com") or model.endswith((":cloud", "-cloud"))


def _think(asked: chat_pb2.ReasoningOptions, body: dict[str, object], report: Report) -> bool:
    """Set `think`; unset leaves the model's own default. Answers whether to hide the thinking from the caller."""
    if asked.effort and asked.effort != "default":
        if asked.effort not in _EFFORTS:
            raise invalid("reasoning_effort", f"`reasoning_effort` must be one of {', '.join(_EFFORTS)}")
        think = body["think"] = _EFFORTS[asked.effort]
        if think and think != asked.effort:
            report.clamped("reasoning_effort", f"`{think}` is the nearest that Ollama has")
    elif asked.HasField("budget_tokens"):
        body["think"] = asked.budget_tokens != 0
    elif asked.adaptive:
        body["think"] = True
    if asked.budget_tokens > 0:
        report.dropped("reasoning.max_tokens", "Ollama has no budget of reasoning")
    if asked.summary:
        report.dropped("reasoning.summary", "Ollama shows the reasoning itself")
    if asked.HasField("include") and not asked.include:
        report.emulated("reasoning.exclude", "the gateway leaves the reasoning out of the answer")
        return True
    return False


def _report_rest(call: chat_pb2.ChatCall, report: Report) -> None:
    if call.user:
        report.dropped("user", "Ollama has no end users")
    if call.HasField("cache_control"):
        report.dropped("cache_control", "Ollama caches prompts by itself")


def _merge_own(
    call: chat_pb2.ChatCall | embedding_pb2.EmbedCall, provider: str, body: dict[str, object], report: Report
) -> None:
    """The caller's own fields: unknown ones of the same dialect, then those meant for this provider."""
    if call.dialect == message_pb2.DIALECT_OLLAMA:
        if call.extra_json:
            merge(body, call.extra_json, "the request")
    else:
        report_members(report, call.extra_json, "", f"what Ollama alone knows goes into `provider_options.{provider}`")
    if provider in call.provider_options:
        merge(body, call.provider_options[provider], f"provider_options.{provider}")


def _refuse_to_cut(policy: chat_pb2.TranslationPolicy.ValueType, body: dict[str, object]) -> None:
    """Under the strict policy, have Ollama refuse what does not fit its context window, which it would cut in silence.

    `/api/chat` takes the field like `/api/embed` (https://docs.ollama.com/api/embed) since 0.12.6:
    https://github.com/ollama/ollama/blob/main/api/types.go.
    """
    if policy == chat_pb2.TRANSLATION_POLICY_STRICT:
        body.setdefault("truncate", False)


def _window(messages: Iterable[dict[str, object]], options: object, loaded_num_ctx: int | None) -> Window:
    characters = sum(len(str(message["content"])) for message in messages)
    num_ctx = num_keep = None
    if isinstance(options, dict):
        num_ctx, num_keep = options.get("num_ctx"), options.get("num_keep")
    return Window(
        num_ctx if isinstance(num_ctx, int) and num_ctx > 0 else loaded_num_ctx,
        num_keep if isinstance(num_keep, int) and num_keep >= 0 else 4,
        characters,
    )
