"""What callers call the parts of their messages, in reports and errors; pure.

Named as OpenAI's chat dialect has them, which the gateway's own API follows: tool calls and reasoning stand beside the
`content`, and a tool's result is a message. Callers of another dialect are told their own names by the edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aigateway.v1 import message_pb2


def of_parts(message: message_pb2.Message, path: str) -> Iterator[tuple[message_pb2.Part, str]]:
    """Each part of the message that stands at `path`, with its own path; that of a tool's result is the message's."""
    said = calls = 0
    for part in message.parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                yield part, f"{path}.tool_calls[{calls}]"
                calls += 1
            case "tool_result":
                yield part, path
            case "reasoning":
                yield part, f"{path}.reasoning_content"
            case _:
                yield part, f"{path}.content[{said}]"
                said += 1
