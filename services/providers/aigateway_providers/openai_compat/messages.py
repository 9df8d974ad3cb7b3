"""Messages and their parts as OpenAI writes them; the request's other fields are in `request`."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import paths, splice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway_providers.openai_compat.profiles import HostProfile
    from aigateway_providers.report import Report

Json = dict[str, object]

_ROLES: Final[Mapping[int, str]] = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "developer",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "tool",
}
_AUDIO_FORMATS: Final[Mapping[str, str]] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_NOTHING: Final = (b"null", b"[]", b'""')
_CITES: Final = frozenset({"annotations", "citations"})
_CITED: Final = "what an earlier answer cites has no place in a chat message that is sent"
"""An assistant message that is sent has content, name, refusal, audio and calls; `annotations` stand in answers alone
(https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages)."""
_MEDIA: Final = frozenset({"image", "audio", "file"})
DIALECT: Final = message_pb2.DIALECT_OPENAI_CHAT


@dataclass(slots=True)
class _Turn:
    """What one message becomes while its parts are read."""

    content: list[Json | orjson.Fragment]
    calls: list[Json]
    results: list[Json]
    extra: Json
    """Fields that OpenAI has beside the content: refusal, audio, reasoning."""
    listed: bool = False
    """The caller wrote the content as a list."""
    plain: bool = True
    """The content is bare text so far."""


class MessageWriter:
    """Writes the messages of one call.

    Args:
        profile: The host.
        model: The host's name of the model.
        own: The caller speaks OpenAI's dialect, so that its extra fields pass through.
        report: Where what cannot be carried is noted.
    """

    def __init__(self, profile: HostProfile, *, model: str, own: bool, report: Report) -> None:
        self._profile = profile
        reasons = any(name in model for name in profile.reasoning_models)
        self._reasoning_field = profile.reasoning_field if reasons else ""
        self._own = own
        self._report = report
        self._attached: list[Json | orjson.Fragment] = []
        """Media of the tool results of this run, until the run ends."""

    def write(self, messages: Sequence[message_pb2.Message]) -> list[Json]:
        """All messages; a turn that holds tool results becomes one message for each, and one for the rest."""
        written: list[Json] = []
        for number, message in enumerate(messages):
            self._message(message, f"messages[{number}]", written)
        self._attach(written)
        return written

    def carry(self, target: Json, json: bytes, field: str) -> None:
        """Merge extra fields of the caller's dialect into `target`, or note what they said and is left out."""
        if not json:
            return
        if self._own:
            splice.merge(target, json, field)
            return
        for key, value in splice.members(json, field).items():
            if value not in _NOTHING:
                self._report.dropped(f"{field}.{key}", _CITED if key in _CITES else "")

    def native(self, part: message_pb2.NativePart, field: str) -> orjson.Fragment | None:
        """A piece in a provider's own JSON, or None (and a note) when it is another provider's."""
        if part.dialect == DIALECT:
            return splice.fragment(part.json, field)
        self._report.dropped(field, "only its own provider understands it")
        return None

    def _message(self, message: message_pb2.Message, field: str, written: list[Json]) -> None:
        if (words := _words(message)) is not None:
            self._attach(written)
            written.append({"role": self._role(message, field), "content": words})
            return
        turn = _Turn([], [], [], {}, listed=message.content_shape == message_pb2.CONTENT_SHAPE_LIST)
        for part, path in paths.of_parts(message, field):
            self._part(part, turn, path)
        written.extend(turn.results)
        if turn.results and not (turn.content or turn.calls):
            if message.extra_json:
                self.carry(turn.results[-1], message.extra_json, field)
            return
        self._attach(written)
        out: Json = {"role": self._role(message, field)}
        _set_content(out, turn, message.content_shape)
        out.update(turn.extra)
        if turn.calls:
            out["tool_calls"] = turn.calls
        if message.name:
            out["name"] = message.name
        self.carry(out, message.extra_json, field)
        self._refused(out, field)
        written.append(out)

    def _refused(self, out: Json, field: str) -> None:
        """Take out what the host refuses."""
        for key in self._profile.message_unsupported:
            if key in out and orjson.dumps(out.pop(key)) not in _NOTHING:
                self._report.dropped(f"{field}.{key}", _CITED if key in _CITES else "")

    def _role(self, message: message_pb2.Message, field: str) -> str:
        role = _ROLES.get(message.role)
        if role is None:
            raise GatewayError("INVALID_REQUEST", f"`{field}.role` is missing", details={"param": f"{field}.role"})
        return "system" if role == "developer" and not self._profile.developer else role

    def _part(self, part: message_pb2.Part, turn: _Turn, field: str) -> None:
        match part.WhichOneof("kind"):
            case "tool_call":
                turn.calls.append(self._tool_call(part, field))
            case "tool_result":
                turn.results.append(self._tool_result(part, field))
            case "reasoning":
                self._reasoning(part, turn, field)
            case "audio" if part.audio.id:
                turn.extra["audio"] = {"id": part.audio.id}
            case "refusal" if self._profile.refusals and not turn.listed:
                turn.extra["refusal"] = part.refusal.text
            case _:
                self._content(part, turn, field)

    def _content(self, part: message_pb2.Part, turn: _Turn, field: str) -> None:
        piece = self._piece(part, field)
        if piece is None:
            return
        if part.HasField("cache_control"):
            self._report.dropped(f"{field}.cache_control")
        if isinstance(piece, dict):
            self.carry(piece, part.extra_json, field)
            turn.plain = turn.plain and len(piece) == 2 and "text" in piece
        else:
            turn.plain = False
        turn.content.append(piece)

    def _piece(self, part: message_pb2.Part, field: str) -> Json | orjson.Fragment | None:
        match part.WhichOneof("kind"):
            case "text":
                return _text(part.text.text)
            case "image":
                return self._image(part.image, field)
            case "audio":
                return self._audio(part.audio, field)
            case "file":
                return self._file(part.file, field)
            case "refusal":
                if self._profile.refusals:
                    return {"type": "refusal", "refusal": part.refusal.text}
                return _text(part.refusal.text)
            case "native":
                return self.native(part.native, field)
            case _:
                raise GatewayError("INVALID_REQUEST", f"`{field}` is empty", details={"param": field})

    def _image(self, image: message_pb2.ImagePart, field: str) -> Json:
        if image.media.WhichOneof("source") == "file_id":
            raise _unsupported(f"{field}.image_url", "an image cannot be given by file id here; send it as a data URL")
        address = image.media.url or _data_url(image.media)
        return {"type": "image_url", "image_url": {"url": address} | ({"detail": image.detail} if image.detail else {})}

    def _audio(self, audio: message_pb2.AudioPart, field: str) -> Json:
        self._files(field)
        if audio.media.WhichOneof("source") != "data":
            raise _unsupported(f"{field}.input_audio", "sound must be sent as data, not by address")
        sound: Json = {"data": base64.b64encode(audio.media.data).decode()}
        if form := audio.format or _AUDIO_FORMATS.get(audio.media.media_type, ""):
            sound["format"] = form
        return {"type": "input_audio", "input_audio": sound}

    def _file(self, file: message_pb2.FilePart, field: str) -> Json:
        self._files(field)
        body: Json = {"filename": file.filename} if file.filename else {}
        match file.media.WhichOneof("source"):
            case "file_id":
                body["file_id"] = file.media.file_id
            case "data":
                body["file_data"] = _data_url(file.media)
            case _:
                raise _unsupported(f"{field}.file", "a document must be sent as data or by file id, not by address")
        return {"type": "file", "file": body}

    def _files(self, field: str) -> None:
        if not self._profile.files:
            raise _unsupported(field, "this provider reads neither documents nor sound")

    def _tool_call(self, part: message_pb2.Part, field: str) -> Json:
        call = part.tool_call
        arguments = call.arguments.decode("utf-8", "replace")
        out: Json
        if call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
            out = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": arguments}}
        else:
            function = {"name": call.name, "arguments": arguments or "{}"}
            out = {"id": call.id, "type": "function", "function": function}
        self.carry(out, part.extra_json, field)
        return out

    def _tool_result(self, part: message_pb2.Part, field: str) -> Json:
        result = part.tool_result
        turn = _Turn([], [], [], {})
        media = _Turn([], [], [], {})
        for number, piece in enumerate(result.content):
            path = f"{field}.content[{number}]"
            if piece.WhichOneof("kind") in _MEDIA:
                self._content(piece, media, path)
                self._report.emulated(path, "in a user message after the tool results, which hold text only")
            else:
                self._content(piece, turn, path)
        if media.content:
            self._attached += [_text(f"Attached to the result of tool call {result.call_id}:"), *media.content]
            turn.content = turn.content or [_text("The result is attached in the user message that follows.")]
        out: Json = {"role": "tool", "tool_call_id": result.call_id}
        if result.name and "name" not in self._profile.message_unsupported:
            out["name"] = result.name
        _set_content(out, turn, result.content_shape)
        if out.get("content") is None:  # a tool message must have content
            out["content"] = ""
        if result.is_error:
            self._report.dropped(f"{field}.is_error", "say it in the content")
        if part.HasField("cache_control"):
            self._report.dropped(f"{field}.cache_control")
        self.carry(out, part.extra_json, field)
        return out

    def _attach(self, written: list[Json]) -> None:
        """End a run of tool results by a user message with their media.

        https://platform.openai.com/docs/api-reference/chat/create: tool messages hold text only, and all that answer an
        assistant message follow it with nothing between.
        """
        if self._attached:
            written.append({"role": "user", "content": self._attached})
            self._attached = []

    def _reasoning(self, part: message_pb2.Part, turn: _Turn, field: str) -> None:
        if part.HasField("provider_state") or not part.reasoning.text:
            return  # it belongs to the provider that made it
        name = self._reasoning_field
        if not name:
            self._report.dropped(field, "this model takes no earlier reasoning")
            return
        turn.extra[name] = f"{turn.extra.get(name, '')}{part.reasoning.text}"


def _words(message: message_pb2.Message) -> str | None:
    """The text of a message that is nothing but one, as most are; None for any other."""
    parts = message.parts
    if len(parts) != 1 or message.content_shape == message_pb2.CONTENT_SHAPE_LIST:
        return None
    part = parts[0]
    if part.WhichOneof("kind") != "text" or message.name or message.extra_json or part.extra_json:
        return None
    return None if part.HasField("cache_control") else part.text.text


def _set_content(out: Json, turn: _Turn, shape: message_pb2.ContentShape.ValueType) -> None:
    """Write the content in the shape the caller used; where that is unknown, as a string when one suffices."""
    if not turn.content:
        match shape:
            case message_pb2.CONTENT_SHAPE_ABSENT:
                return
            case message_pb2.CONTENT_SHAPE_STRING:
                out["content"] = ""
            case message_pb2.CONTENT_SHAPE_LIST:
                out["content"] = []
            case _:
                out["content"] = None
    elif shape != message_pb2.CONTENT_SHAPE_LIST and turn.plain and len(turn.content) == 1:
        [piece] = turn.content
        out["content"] = piece["text"] if isinstance(piece, dict) else piece
    else:
        out["content"] = turn.content


def _text(words: str) -> Json:
    return {"type": "text", "text": words}


def _data_url(media: message_pb2.Media) -> str:
    encoded = base64.b64encode(media.data).decode()
    return f"data:{media.media_type};base64,{encoded}" if media.media_type else encoded


def _unsupported(field: str, message: str) -> GatewayError:
    return GatewayError("UNSUPPORTED", f"`{field}`: {message}", details={"param": field})
