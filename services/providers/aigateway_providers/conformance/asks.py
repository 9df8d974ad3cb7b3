"""The calls that the cases make: pure messages, cheap enough to be sent to a provider that charges for them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2, message_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN_MODEL: Final = "conformance-no-such-model"
LIMIT: Final = 2000
"""Tokens an answer may have: enough for a model that reasons first."""
LARGE: Final = 5 * 1024 * 1024
"""Bytes of a large message: more than gRPC takes unless it is told to."""
SCHEMA: Final = (
    b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
)
"""What a tool takes, and what a structured answer follows."""
LONG: Final = "Repeat this word for word: " + " ".join(f"number {number}" for number in range(3000))
"""A question whose answer takes long enough to be cut off."""


def chat(model: str, *messages: message_pb2.Message, question: str = "Say hello.") -> chat_pb2.ChatCall:
    """A plain question, or `messages`."""
    return chat_pb2.ChatCall(
        model=model,
        messages=messages or [user(text(question))],
        options=chat_pb2.GenerationOptions(max_output_tokens=LIMIT),
    )


def user(*parts: message_pb2.Part) -> message_pb2.Message:
    """A turn of the user."""
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=parts)


def text(words: str) -> message_pb2.Part:
    """A part of text."""
    return message_pb2.Part(text=message_pb2.TextPart(text=words))


def with_tools(model: str, *, parallel: bool = False) -> chat_pb2.ChatCall:
    """A question that two tools answer, of which one must be called, or both may be."""
    call = chat(model, question="What are the weather and the time in Paris? Ask all the tools that you need at once.")
    call.tools.extend(tool(name) for name in ("get_weather", "get_time"))
    call.tool_choice.mode = message_pb2.TOOL_CHOICE_MODE_REQUIRED
    if parallel:
        call.parallel_tool_calls = True
    return call


def tool(name: str, schema: bytes = SCHEMA) -> message_pb2.Tool:
    """A function of the caller."""
    function = message_pb2.FunctionTool(name=name, description=f"{name} of a city", parameters_json=schema)
    return message_pb2.Tool(function=function)


def with_results(call: chat_pb2.ChatCall, answer: message_pb2.Message) -> chat_pb2.ChatCall:
    """The next turn: the model's answer as it came, and a result for each of its tool calls."""
    following = chat_pb2.ChatCall()
    following.CopyFrom(call)
    following.tool_choice.mode = message_pb2.TOOL_CHOICE_MODE_AUTO
    following.messages.append(answer)
    for part in answer.parts:
        if part.HasField("tool_call"):
            result = message_pb2.ToolResult(call_id=part.tool_call.id, content=[text("12 degrees, 10:30")])
            following.messages.append(
                message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[message_pb2.Part(tool_result=result)])
            )
    return following


def with_broken_arguments(model: str) -> chat_pb2.ChatCall:
    """A history in which the model wrote arguments that are no JSON."""
    wish = message_pb2.ToolCall(id="call_1", name="get_weather", arguments=b'{"city": "Par')
    call = chat(
        model,
        user(text("What is the weather in Paris?")),
        message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(tool_call=wish)]),
    )
    call.tools.append(tool("get_weather"))
    call.tool_choice.mode = message_pb2.TOOL_CHOICE_MODE_AUTO
    return with_results(call, message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=call.messages.pop().parts))


def structured(model: str) -> chat_pb2.ChatCall:
    """A question whose answer must follow a schema."""
    call = chat(model, question="Which city is the capital of France? Answer as JSON.")
    call.response_format.CopyFrom(
        chat_pb2.ResponseFormat(
            type=chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, name="place", schema_json=SCHEMA, strict=True
        )
    )
    return call


def picture(model: str, data: bytes) -> chat_pb2.ChatCall:
    """A question about a picture."""
    media = message_pb2.Media(data=data, media_type="image/png")
    return chat(model, user(text("Which colour is it?"), message_pb2.Part(image=message_pb2.ImagePart(media=media))))


def png(size: int = 0) -> bytes:
    """A red square of 16 by 16 pixels, with a chunk beside the pixels that brings it to at least `size` bytes."""
    pixels = zlib.compress(b"".join(b"\0" + b"\xff\0\0" * 16 for _ in range(16)))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)), (b"IDAT", pixels)]
    if size:
        chunks.append((b"prVt", bytes(size)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in [*chunks, (b"IEND", b"")])


def reasoning(model: str) -> chat_pb2.ChatCall:
    """A question to think about."""
    call = chat(model, question="How many weekdays are there in three weeks?")
    call.reasoning.CopyFrom(chat_pb2.ReasoningOptions(effort="low", include=True))
    return call


def foreign(own: message_pb2.Dialect.ValueType) -> message_pb2.Dialect.ValueType:
    """A dialect that is not the adapter's own."""
    return message_pb2.DIALECT_OLLAMA if own == message_pb2.DIALECT_GEMINI else message_pb2.DIALECT_GEMINI


def with_extras(
    call: chat_pb2.ChatCall, dialect: message_pb2.Dialect.ValueType, levels: Sequence[str] = ("call", "message", "part")
) -> chat_pb2.ChatCall:
    """`call` with fields nobody knows, in `dialect`."""
    extra = b'{"conformance_unknown":{"deep":[9007199254740993,"\xc3\xa9",null]}}'
    call.dialect = dialect
    if "call" in levels:
        call.extra_json = extra
    if "message" in levels:
        call.messages[0].extra_json = extra
    if "part" in levels:
        call.messages[0].parts[0].extra_json = extra
    return call


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
