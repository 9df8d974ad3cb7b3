"""The requests that are measured: a short one, one of 9 KB with tools, and one with an image of 1 MB. Data only."""

from __future__ import annotations

import base64
import json
import random
from typing import Any, Final, Literal

Kind = Literal["short", "tools", "image"]

AT_ONCE: Final = "bench-model"
PACED: Final = "bench-paced"
FIRST: Final = "bench-first"
"""The mock's models. Chunks of a stream come at once, or 10 ms apart, or role and first word at once and the others
10 ms later: so there are many first chunks a second to time."""

_ASKED: Final = "Tell me about foxes and dogs, briefly."
_SYSTEM: Final = {"role": "system", "content": "You are a helpful assistant."}
_IMAGE_BYTES: Final = 750_000
"""A third more as base64."""
_TOOLS: Final = 13


def body(kind: Kind, model: str, *, stream: bool) -> bytes:
    """The JSON of a chat completion."""
    content: Any = _ASKED
    more: dict[str, Any] = {}
    match kind:
        case "short":
            pass
        case "tools":
            more = {"tools": [_tool(number) for number in range(_TOOLS)], "tool_choice": "auto"}
        case "image":
            url = "data:image/png;base64," + base64.b64encode(random.Random(0).randbytes(_IMAGE_BYTES)).decode()
            content = [{"type": "text", "text": _ASKED}, {"type": "image_url", "image_url": {"url": url}}]
    messages = [_SYSTEM, {"role": "user", "content": content}]
    return json.dumps({"model": model, "messages": messages, "stream": stream} | more).encode()


def _tool(number: int) -> dict[str, Any]:
    properties = {
        name: {"type": kind, "description": f"The {name} that the search number {number} is narrowed to, if any."}
        for name, kind in (("place", "string"), ("since", "string"), ("most", "integer"), ("species", "string"))
    }
    parameters = {"type": "object", "properties": properties, "required": ["place"], "additionalProperties": False}
    text = f"Looks for animals of collection {number} that were seen at a place, newest first, with who saw them."
    return {"type": "function", "function": {"name": f"find_{number}", "description": text, "parameters": parameters}}
