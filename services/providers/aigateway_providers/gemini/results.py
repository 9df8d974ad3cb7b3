"""Results of tools as `functionResponse` parts (https://ai.google.dev/gemini-api/docs/function-calling)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from aigateway.v1 import message_pb2


def function_response(
    result: message_pb2.ToolResult, name: str, pieces: list[Any], *, has_media: bool
) -> dict[str, Any]:
    """The part for one result.

    Args:
        result: What the tool answered.
        name: The function's name.
        pieces: Media to put inside, which Gemini 3 and later read.
        has_media: The result has media, inside or not, so that an empty text needs no mention.
    """
    said = "".join(part.text.text for part in result.content if part.WhichOneof("kind") == "text")
    response: dict[str, Any] = {
        "name": name,
        "id": result.call_id,
        "response": {} if has_media and not said else _wrapped(said, failed=result.is_error),
    }
    if pieces:
        response["parts"] = pieces
    return {"functionResponse": response}


def _wrapped(said: str, *, failed: bool) -> object:
    """The text as the object that the API demands: itself when it is one, else under `result`, or `error`."""
    raw = said.encode()
    structured = raw.strip()[:1] in {b"{", b"["} and _is_json(raw)
    if structured and not failed and raw.strip().startswith(b"{"):
        return orjson.Fragment(raw)
    return {"error" if failed else "result": orjson.Fragment(raw) if structured else said}


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True
