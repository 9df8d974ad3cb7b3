"""What the sandbox's models say: pure functions of the call, so that the same call always gets the same answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from aigateway.v1 import chat_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_providers.sandbox.sample import sample

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD: Final = re.compile(r"\S+\s*|\s+")
_FEW: Final = 3
"""Words that the models which fail midway say before they do."""


@dataclass(slots=True)
class Answer:
    """What a model says, ready to be sent whole or in pieces."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[message_pb2.ToolCall] = field(default_factory=list)
    finish: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_STOP


def answer(call: chat_pb2.ChatCall) -> Answer:
    """The answer of the model that `call` names.

    Raises:
        GatewayError: INVALID_REQUEST or UNSUPPORTED, naming the field.
    """
    if call.options.n > 1:
        raise GatewayError("UNSUPPORTED", "the sandbox gives one answer a call", details={"param": "n"})
    match call.model:
        case "tools":
            made = _with_tools(call)
        case "json":
            made = Answer(text=_json(call))
        case "reason":
            made = Answer(text=last_user_text(call), reasoning=_reasoning(call))
        case _:
            made = Answer(text=last_user_text(call))
    return _limited(made, call.options)


def words(text: str) -> list[str]:
    """`text` cut after each word; joined again they are the text."""
    return _WORD.findall(text)


def first_words(made: Answer) -> Answer:
    """What is said of an answer before it breaks off."""
    return Answer(text="".join(words(made.text or "some words, then")[:_FEW]))


def usage(call: chat_pb2.ChatCall, made: Answer) -> tokens_pb2.TokenUsage:
    """Words, counted as if they were tokens."""
    spoken = len(words(made.text)) + sum(len(words(c.arguments.decode())) for c in made.tool_calls)
    return tokens_pb2.TokenUsage(
        input_uncached=prompt_words(call),
        output_text=spoken,
        output_reasoning=len(words(made.reasoning)),
    )


def prompt_words(call: chat_pb2.ChatCall) -> int:
    """The words of a prompt."""
    return sum(len(words(text)) for message in call.messages for text in _texts(message.parts))


def last_user_text(call: chat_pb2.ChatCall) -> str:
    """The text of the last user message; of the last message at all when no user has spoken."""
    said = [message for message in call.messages if message.role == message_pb2.ROLE_USER] or call.messages
    return "\n".join(_texts(said[-1].parts)) if said else ""


def _texts(parts: Iterable[message_pb2.Part]) -> Iterable[str]:
    for part in parts:
        match part.WhichOneof("kind"):
            case "text":
                yield part.text.text
            case "tool_result":
                yield from _texts(part.tool_result.content)
            case _:
                continue


def _limited(made: Answer, options: chat_pb2.GenerationOptions) -> Answer:
    """Obey `stop` and the token limit, a word being a token."""
    ends = [made.text.find(stop) for stop in options.stop if stop]
    if ends := [end for end in ends if end >= 0]:
        made.text = made.text[: min(ends)]
    if options.HasField("max_output_tokens") and not made.tool_calls:
        said = words(made.text)
        left = max(0, options.max_output_tokens - len(words(made.reasoning)))
        if len(said) > left:
            made.text, made.finish = "".join(said[:left]), chat_pb2.FINISH_REASON_LENGTH
    return made


def _reasoning(call: chat_pb2.ChatCall) -> str:
    return f"The sandbox was sent {len(call.messages)} message(s). It will repeat the last one of the user."


def _json(call: chat_pb2.ChatCall) -> str:
    asked = call.response_format
    if asked.type == chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA and asked.schema_json:
        param = "response_format.json_schema.schema"
        value = sample(_schema(asked.schema_json, param), param)
    else:
        value = {"echo": last_user_text(call)}
    return orjson.dumps(value).decode()


def _with_tools(call: chat_pb2.ChatCall) -> Answer:
    if results := _results(call):
        return Answer(text="\n".join(results))
    offered = _offered(call)
    if not offered:
        return Answer(text="No tools were offered: send `tools`, and `tool_choice` other than `none`.")
    several = not call.HasField("parallel_tool_calls") or call.parallel_tool_calls
    chosen = offered[:2] if several else offered[:1]
    calls = [
        message_pb2.ToolCall(
            id=f"call_sandbox_{len(call.messages)}_{number}",
            name=tool.name,
            arguments=_arguments(tool, index),
            type=message_pb2.TOOL_CALL_TYPE_FUNCTION,
        )
        for number, (index, tool) in enumerate(chosen)
    ]
    return Answer(tool_calls=calls, finish=chat_pb2.FINISH_REASON_TOOL_CALLS)


def _offered(call: chat_pb2.ChatCall) -> list[tuple[int, message_pb2.FunctionTool]]:
    """The functions the model may call, each with its place among `tools`."""
    if call.tool_choice.mode == message_pb2.TOOL_CHOICE_MODE_NONE:
        return []
    wanted = frozenset(call.tool_choice.allowed_tools)
    functions = [(i, tool.function) for i, tool in enumerate(call.tools) if tool.HasField("function")]
    if missing := wanted - {function.name for _, function in functions}:
        raise invalid("tool_choice", f"`tool_choice` names `{min(missing)}`, which is not among `tools`")
    return [(i, function) for i, function in functions if not wanted or function.name in wanted]


def _arguments(tool: message_pb2.FunctionTool, index: int) -> bytes:
    if not tool.parameters_json:
        return b"{}"
    param = f"tools[{index}].function.parameters"
    return orjson.dumps(sample(_schema(tool.parameters_json, param), param))


def _results(call: chat_pb2.ChatCall) -> list[str]:
    """What the tools answered since the model last spoke, as sentences."""
    names = {
        part.tool_call.id: part.tool_call.name
        for message in call.messages
        for part in message.parts
        if part.HasField("tool_call")
    }
    told: list[str] = []
    for message in reversed(call.messages):
        if message.role != message_pb2.ROLE_TOOL:
            break
        for part in message.parts:
            result = part.tool_result
            name = names.get(result.call_id) or result.name or result.call_id
            told.insert(0, f"{name} answered: {' '.join(_texts(result.content))}")
    return told


def _schema(data: bytes, param: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise invalid(param, f"`{param}` is not JSON") from error
