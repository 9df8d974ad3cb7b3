"""Parts of the caller's messages to Anthropic content blocks, one by one; where they go is `messages.py`.

https://platform.claude.com/docs/en/api/messages#body-messages-content
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers.anthropic import splice

if TYPE_CHECKING:
    from aigateway_providers.report import Report

PROVIDER: Final = "anthropic"
"""The name in `ProviderState.provider`."""
DIALECT: Final = message_pb2.DIALECT_ANTHROPIC_MESSAGES

Block = dict[str, Any]

_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def tool_id(call_id: str) -> str:
    """A tool call id that Anthropic takes (`^[a-zA-Z0-9_-]{1,64}$`): its own unchanged, a foreign one by its digest.

    The same id always gives the same result, so calls and their results stay matched over turns. There is no way back
    to take: Claude's answers carry ids of its own making.
    """
    if _TOOL_ID.fullmatch(call_id):
        return call_id
    return "toolu_" + hashlib.sha256(call_id.encode()).hexdigest()[:40]


def cache_mark(owner: message_pb2.Part | message_pb2.Tool) -> dict[str, Block]:
    """The `cache_control` field of a part or tool, or nothing."""
    return {"cache_control": cache_control(owner.cache_control)} if owner.HasField("cache_control") else {}


def cache_control(mark: message_pb2.CacheControl) -> Block:
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching."""
    return {"type": "ephemeral", "ttl": mark.ttl} if mark.ttl else {"type": "ephemeral"}


class Blocks:
    """Translates parts; holds what all of them need to know of the call."""

    __slots__ = ("_dialect", "_report")

    def __init__(self, dialect: message_pb2.Dialect.ValueType, report: Report) -> None:
        self._dialect = dialect
        self._report = report

    def of(self, part: message_pb2.Part, path: str) -> Block | Any | None:
        """The block of `part`, or None when nothing is left of it.

        Args:
            part: The part.
            path: Its path in the caller's request, for reports and errors; that of the message, for a tool's result.
        """
        match part.WhichOneof("kind"):
            case "text":
                block = _text(part.text.text)
            case "refusal":
                block = _text(part.refusal.text)
            case "image":
                block = self._image(part.image, path)
            case "file":
                block = _file(part.file, path)
            case "reasoning":
                block = _thinking(part)
            case "tool_call":
                block = self._tool_use(part.tool_call, path)
            case "tool_result":
                block = self._tool_result(part.tool_result, path)
            case "native":
                return self._native(part.native, path)
            case "audio":
                block = self._audio(part.audio, path)
            case _:
                raise _unsupported(path, "an empty part")
        if block is not None:
            block |= cache_mark(part)
            self.extras(block, part.extra_json, path)
        return block

    def extras(self, target: Block, extra_json: bytes, path: str) -> None:
        """Merge extra fields of our own dialect; report those of another one."""
        if not extra_json:
            return
        extra = splice.caller_fields(extra_json, path or "extra_json")
        if self._dialect == DIALECT:
            splice.merge(target, extra)
            return
        for key in extra:
            self._report.dropped(f"{path}.{key}" if path else key)

    def _image(self, image: message_pb2.ImagePart, path: str) -> Block:
        if image.detail not in {"", "auto"}:
            self._report.dropped(f"{path}.image_url.detail", "Claude has no detail setting")
        return {"type": "image", "source": _source(image.media, image.media.media_type or "image/png")}

    def _audio(self, audio: message_pb2.AudioPart, path: str) -> Block | None:
        """Claude hears nothing, but an earlier spoken answer can be read."""
        if not audio.transcript:
            raise _unsupported(path, "audio")
        self._report.emulated(path, "the transcript of the audio")
        return _text(audio.transcript)

    def _tool_use(self, call: message_pb2.ToolCall, path: str) -> Block:
        block: Block = {"type": "tool_use", "id": tool_id(call.id), "name": call.name}
        if call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
            self._report.emulated(path, "a custom tool's text as an object")
            return block | {"input": {"input": call.arguments.decode("utf-8", "replace")}}
        if not call.arguments.strip():
            return block | {"input": {}}
        splice.caller_fields(call.arguments, f"{path}.function.arguments")
        return block | {"input": splice.fragment(call.arguments)}

    def _tool_result(self, result: message_pb2.ToolResult, path: str) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": tool_id(result.call_id)}
        content = [
            inner
            for index, part in enumerate(result.content)
            if (inner := self.of(part, f"{path}.content[{index}]")) is not None
        ]
        if content:
            block["content"] = content
        if result.HasField("is_error"):
            block["is_error"] = result.is_error
        return block

    def _native(self, native: message_pb2.NativePart, path: str) -> Any | None:
        if native.dialect == DIALECT:
            return splice.fragment(native.json)
        self._report.dropped(path, "a part of another provider")
        return None


def _text(text: str) -> Block | None:
    return {"type": "text", "text": text} if text else None  # Anthropic refuses empty text blocks


def _thinking(part: message_pb2.Part) -> Block | None:
    """Thinking goes back only as it came, with its signature: without one, or with another provider's, it is left out.

    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks
    """
    state = part.provider_state
    if state.provider != PROVIDER or not state.state:
        return None
    opaque = state.state.decode("utf-8", "replace")
    if part.reasoning.redacted:
        return {"type": "redacted_thinking", "data": opaque}
    return {"type": "thinking", "thinking": part.reasoning.text, "signature": opaque}


def _source(media: message_pb2.Media, media_type: str) -> Block:
    match media.WhichOneof("source"):
        case "url":
            return {"type": "url", "url": media.url}
        case "file_id":
            return {"type": "file", "file_id": media.file_id}
        case _:
            return {"type": "base64", "media_type": media_type, "data": base64.b64encode(media.data).decode("ascii")}


def _file(file: message_pb2.FilePart, path: str) -> Block:
    """A document: PDF by bytes or address, plain text, or a file stored at Anthropic; a picture is an image block.

    https://platform.claude.com/docs/en/build-with-claude/pdf-support
    """
    media = file.media
    kind = media.media_type or ("application/pdf" if media.data.startswith(b"%PDF") else "")
    title = {"title": file.filename} if file.filename else {}
    if media.WhichOneof("source") != "data":
        return {"type": "image" if kind.startswith("image/") else "document", "source": _source(media, kind), **title}
    if kind.startswith("image/"):
        return {"type": "image", "source": _source(media, kind)}
    if kind == "application/pdf":
        return {"type": "document", "source": _source(media, kind), **title}
    if kind.startswith("text/"):
        text = media.data.decode("utf-8", "replace")
        return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}, **title}
    raise _unsupported(path, f"a file of type `{kind or 'unknown'}`")


def _unsupported(path: str, what: str) -> GatewayError:
    return GatewayError("UNSUPPORTED", f"anthropic does not take {what} (`{path}`)", details={"param": path})
