"""A conversation as the `input` items of Responses; the request's other fields are in `request`. Pure.

https://platform.openai.com/docs/api-reference/responses/create#responses-create-input. A turn becomes as many items as
it has reasoning, tool calls, results and native pieces, in the order of its parts; the text between them is a message
item. A reasoning part goes back as the item that its state holds, and to the provider that made it only.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import msgspec
import orjson
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import paths, splice
from aigateway_providers.openai_responses.response import DIALECT, ITEM_FIELDS, rest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway_providers.report import Report

Json = dict[str, object]

_ROLES: Final[Mapping[int, str]] = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "developer",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "user",
}
_PIECES: Final = ("input_", "output_", "refusal", "text", "summary_text", "reasoning_text", "computer_screenshot")
"""How the types of a message's pieces begin; a native part of any other type is an item of its own."""


class _Typed(msgspec.Struct):
    type: str = ""


class _Annotation(_Typed):
    url_citation: dict[str, msgspec.Raw] | None = None


_TYPED: Final = msgspec.json.Decoder(_Typed)
_ANNOTATIONS: Final[msgspec.json.Decoder[list[_Annotation] | None]] = msgspec.json.Decoder(list[_Annotation] | None)


class _Open:
    """A message item that is being written."""

    __slots__ = ("fields", "pieces", "shape")

    def __init__(self, shape: message_pb2.ContentShape.ValueType) -> None:
        self.fields: Json = {}
        """The item's own fields beside its role and content."""
        self.pieces: list[Json | orjson.Fragment] = []
        self.shape = shape


class ItemWriter:
    """Writes the items of one call.

    Args:
        provider: The provider's name, whose states are sent back.
        own: The caller speaks Responses, so that its extra fields pass through.
        report: Where what cannot be carried is noted.
    """

    def __init__(self, *, provider: str, own: bool, report: Report) -> None:
        self._provider = provider
        self._own = own
        self._report = report
        self._items: list[Json | orjson.Fragment] = []
        self._custom: set[str] = set()
        """Ids of calls to custom tools, whose results are items of another type."""
        self._message: message_pb2.Message
        self._open: _Open | None = None
        self._extra = b""
        """Fields of the message that its first item still has to take."""
        self._cited: list[Json] = []
        """What a chat caller's message cites, until its first text takes it."""

    def write(self, messages: Sequence[message_pb2.Message]) -> list[Json | orjson.Fragment]:
        """All items."""
        for number, message in enumerate(messages):
            self._turn(message, f"messages[{number}]")
        return self._items

    def carry(self, target: Json, json: bytes, field: str) -> None:
        """Merge extra fields of the caller's dialect into `target`, or note that they are left out."""
        if not json:
            return
        if self._own:
            splice.merge(target, json, field)
        else:
            for key in splice.members(json, field):
                self._report.dropped(f"{field}.{key}")

    def native(self, part: message_pb2.NativePart, field: str) -> orjson.Fragment | None:
        """A piece in OpenAI's own JSON, or None (and a note) when it is another provider's."""
        if part.dialect == DIALECT:
            return splice.fragment(part.json, field)
        self._report.dropped(field, "only its own provider understands it")
        return None

    def _turn(self, message: message_pb2.Message, field: str) -> None:
        self._message = message
        self._extra = message.extra_json
        self._cited = [] if self._own or message.role != message_pb2.ROLE_ASSISTANT else self._citations(field)
        for part, path in paths.of_parts(message, field):
            self._part(part, path)
        if not message.parts and message.content_shape in {
            message_pb2.CONTENT_SHAPE_STRING,
            message_pb2.CONTENT_SHAPE_LIST,
        }:
            self._piece_item()
        self._close(field)
        if message.name:
            self._report.dropped(f"{field}.name")
        if self._cited:
            self._report.dropped(f"{field}.annotations", "there is no text that they belong to")
        if self._extra and not self._own:
            self.carry({}, self._extra, field)

    def _part(self, part: message_pb2.Part, field: str) -> None:
        if part.HasField("cache_control"):
            self._report.dropped(f"{field}.cache_control", "this provider caches by itself")
        match part.WhichOneof("kind"):
            case "tool_call":
                self._add(self._tool_call(part, field), field)
            case "tool_result":
                self._add(self._tool_result(part, field), field)
            case "reasoning":
                self._reasoning(part, field)
            case "native" if not _is_piece(part.native):
                if (item := self.native(part.native, field)) is not None:
                    self._add(item, field)
            case "text" if not part.text.text and part.HasField("provider_state"):
                pass  # no more than a carrier of another provider's state
            case _:
                self._content(part, field)

    def _add(self, item: Json | orjson.Fragment, field: str) -> None:
        self._close(field)
        self._items.append(item)

    def _content(self, part: message_pb2.Part, field: str) -> None:
        piece = self._piece(part, field)
        if piece is None:
            return
        own: Json = {}
        if part.extra_json:
            extra = piece if isinstance(piece, dict) else {}
            self.carry(extra, part.extra_json, field)
            if self._own and self._message.role == message_pb2.ROLE_ASSISTANT:
                own = _take_item_fields(extra, field)
        if self._open is not None and own.get("id") != self._open.fields.get("id"):
            self._close(field)
        item = self._piece_item()
        item.fields |= own
        item.pieces.append(piece)

    def _piece_item(self) -> _Open:
        if self._open is None:
            self._open = _Open(self._message.content_shape)
        return self._open

    def _close(self, field: str) -> None:
        """Write the message item that is open, with the message's extra fields when it is the first."""
        item, self._open = self._open, None
        if item is None:
            return
        out: Json = {"role": _role(self._message, field), "content": _content_of(item)}
        out |= item.fields
        self.carry(out, self._extra, field)
        self._extra = b""
        if item.fields and "type" not in out:
            out["type"] = "message"
        self._items.append(out)

    def _piece(self, part: message_pb2.Part, field: str) -> Json | orjson.Fragment | None:
        match part.WhichOneof("kind"):
            case "text":
                if self._message.role != message_pb2.ROLE_ASSISTANT:
                    return {"type": "input_text", "text": part.text.text}
                cited, self._cited = self._cited, []
                return {"type": "output_text", "text": part.text.text} | ({"annotations": cited} if cited else {})
            case "refusal":
                return {"type": "refusal", "refusal": part.refusal.text}
            case "image":
                return _image(part.image)
            case "file":
                return _file(part.file)
            case "audio" if part.audio.transcript and self._message.role == message_pb2.ROLE_ASSISTANT:
                self._report.emulated(field, "by its transcript")
                return {"type": "output_text", "text": part.audio.transcript}
            case "audio":
                raise GatewayError(
                    "UNSUPPORTED", f"`{field}`: the Responses API reads no sound", details={"param": field}
                )
            case "native":
                return self.native(part.native, field)
            case _:
                raise GatewayError("INVALID_REQUEST", f"`{field}` is empty", details={"param": field})

    def _citations(self, field: str) -> list[Json]:
        """Take the `annotations` of a chat caller's message, whose shape nests what is flat here, out of its fields."""
        members = splice.members(self._extra, field)
        raw = members.pop("annotations", b"null")
        self._extra = rest(members, ())
        cited: list[Json] = []
        try:
            given = _ANNOTATIONS.decode(raw)
        except msgspec.DecodeError:
            self._report.dropped(f"{field}.annotations", "not as OpenAI writes them")
            return cited
        for annotation in given or ():
            if annotation.type == "url_citation" and annotation.url_citation is not None:
                flat: Json = {key: orjson.Fragment(bytes(value)) for key, value in annotation.url_citation.items()}
                cited.append({"type": annotation.type} | flat)
            else:
                self._report.dropped(f"{field}.annotations", annotation.type)
        return cited

    def _tool_call(self, part: message_pb2.Part, field: str) -> Json:
        call = part.tool_call
        arguments = call.arguments.decode("utf-8", "replace")
        if call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
            self._custom.add(call.id)
            out: Json = {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": arguments}
        else:
            out = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments or "{}"}
        self.carry(out, part.extra_json, field)
        return out

    def _tool_result(self, part: message_pb2.Part, field: str) -> Json:
        result = part.tool_result
        kind = "custom_tool_call_output" if result.call_id in self._custom else "function_call_output"
        out: Json = {"type": kind, "call_id": result.call_id, "output": self._output(result, field)}
        if result.is_error:
            self._report.dropped(f"{field}.is_error", "say it in the content")
        self.carry(out, part.extra_json, field)
        if self._extra and len(self._message.parts) == 1:
            self.carry(out, self._extra, field)
            self._extra = b""
        return out

    def _output(self, result: message_pb2.ToolResult, field: str) -> str | list[Json | orjson.Fragment]:
        pieces: list[Json | orjson.Fragment] = []
        for number, part in enumerate(result.content):
            path = f"{field}.content[{number}]"
            if part.HasField("cache_control"):
                self._report.dropped(f"{path}.cache_control", "this provider caches by itself")
            piece = self._piece(part, path)
            if isinstance(piece, dict):
                self.carry(piece, part.extra_json, path)
            if piece is not None:
                pieces.append(piece)
        if result.content_shape == message_pb2.CONTENT_SHAPE_LIST:
            return pieces
        return _plain(pieces)

    def _reasoning(self, part: message_pb2.Part, field: str) -> None:
        state = part.provider_state
        if not part.HasField("provider_state"):
            if part.reasoning.text:
                self._report.dropped(field, "reasoning without its state cannot be sent back")
            return
        if state.provider != self._provider or not state.state.lstrip().startswith(b"{"):
            return  # it belongs to the provider that made it
        self._add(splice.fragment(state.state, field), field)


def _role(message: message_pb2.Message, field: str) -> str:
    role = _ROLES.get(message.role)
    if role is None:
        param = f"{field.partition('.')[0]}.role"
        raise GatewayError("INVALID_REQUEST", f"`{param}` is missing", details={"param": param})
    return role


def _is_piece(part: message_pb2.NativePart) -> bool:
    try:
        return _TYPED.decode(part.json).type.startswith(_PIECES)
    except msgspec.DecodeError:
        return False


def _take_item_fields(piece: Json, field: str) -> Json:
    """The fields of a message item out of the first piece that carries them."""
    own: Json = {key: piece.pop(key) for key in ITEM_FIELDS if key in piece}
    others = piece.pop("item", None)
    if isinstance(others, orjson.Fragment):
        splice.merge(own, orjson.dumps(others), f"{field}.item")
    if "id" in own:
        own["id"] = orjson.loads(orjson.dumps(own["id"]))  # comparable with that of the next piece
    return own


def _content_of(item: _Open) -> str | list[Json | orjson.Fragment]:
    """The content in the shape the caller used; where that is unknown, a string when one suffices.

    An item that goes back with its id is written as it came, which is a list.
    """
    if item.shape == message_pb2.CONTENT_SHAPE_LIST or (item.fields and item.shape != message_pb2.CONTENT_SHAPE_STRING):
        return item.pieces
    return _plain(item.pieces)


def _plain(pieces: list[Json | orjson.Fragment]) -> str | list[Json | orjson.Fragment]:
    if not pieces:
        return ""
    if len(pieces) == 1 and isinstance(pieces[0], dict) and len(pieces[0]) == 2:
        text = pieces[0].get("text")
        if isinstance(text, str):
            return text
    return pieces


def _image(image: message_pb2.ImagePart) -> Json:
    out: Json = {"type": "input_image"}
    if image.media.WhichOneof("source") == "file_id":
        out["file_id"] = image.media.file_id
    else:
        out["image_url"] = image.media.url or _data_url(image.media)
    return out | ({"detail": image.detail} if image.detail else {})


def _file(file: message_pb2.FilePart) -> Json:
    out: Json = {"type": "input_file"}
    if file.filename:
        out["filename"] = file.filename
    match file.media.WhichOneof("source"):
        case "file_id":
            out["file_id"] = file.media.file_id
        case "url":
            out["file_url"] = file.media.url
        case _:
            out["file_data"] = _data_url(file.media)
            out.setdefault("filename", "document.pdf" if file.media.media_type == "application/pdf" else "document")
    return out


def _data_url(media: message_pb2.Media) -> str:
    encoded = base64.b64encode(media.data).decode()
    return f"data:{media.media_type};base64,{encoded}" if media.media_type else encoded
