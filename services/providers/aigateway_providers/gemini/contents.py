"""The conversation as Gemini takes it: `systemInstruction` and `contents` of roles `user` and `model`.

Every model turn that was Gemini's goes back as it came, thought signatures in place
(https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aigateway.v1 import message_pb2
from aigateway_common.errors import GatewayError, invalid

from aigateway_providers import paths
from aigateway_providers.gemini import media, results, thinking, wire

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2

    from aigateway_providers.gemini.signatures import Lookup
    from aigateway_providers.report import Report

UNSIGNED: Final = "skip_thought_signature_validator"
"""What Gemini 3 takes for the signature of a function call that no Gemini model made, or whose signature is lost
(https://ai.google.dev/gemini-api/docs/thought-signatures)."""

_SYSTEM: Final = frozenset({message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER})
_NOTHING: Final = frozenset({b"null", b"[]", b"{}", b'""'})


def translate(call: chat_pb2.ChatCall, report: Report, kept: Lookup | None) -> tuple[list[Any], list[Any]]:
    """The parts of the system instruction, and the contents."""
    conversation = Conversation(call, report, kept)
    for number, message in enumerate(call.messages):
        conversation.add(message, f"messages[{number}]")
    return conversation.system, conversation.contents


class Conversation:
    """Takes messages in order and keeps what later ones need: names of called functions, an open list of results."""

    def __init__(self, call: chat_pb2.ChatCall, report: Report, kept: Lookup | None) -> None:
        self.system: list[Any] = []
        self.contents: list[Any] = []
        self._report = report
        self._kept = kept
        self._room = media.Room()
        self._dialect = call.dialect
        self._newest = bool(thinking.family(call.model).levels)
        self._names: dict[str, str] = {}
        self._results: list[Any] | None = None
        """The parts of the `user` content that takes tool results, while results follow each other."""
        self._after: list[Any] = []
        """Media of tool results, for models that take none inside a function response."""
        self._before: message_pb2.Message | None = None
        """The message before the one that is being translated."""

    def add(self, message: message_pb2.Message, path: str) -> None:
        """Translate one message, which the caller knows as `path`."""
        if message.name:
            self._report.dropped(f"{path}.name", "Gemini knows no participants")
        if message.role in _SYSTEM:
            self._instruct(message, path)
        elif message.role == message_pb2.ROLE_ASSISTANT:
            self._content("model", self._said(message, path), message, path)
        elif message.role in {message_pb2.ROLE_USER, message_pb2.ROLE_TOOL}:
            self._heard(message, path)
        else:
            raise invalid(f"{path}.role", f"`{path}.role` is missing or unknown")
        self._before = message

    def _instruct(self, message: message_pb2.Message, path: str) -> None:
        """Instructions, wherever they stand, go in order into the one system instruction, which is text."""
        for part, where in paths.of_parts(message, path):
            if part.WhichOneof("kind") != "text":
                raise _unsupported(part, where)
            if part.text.text:
                self.system.append(self._part(part, where))
        self._extras(None, message.extra_json, path)

    def _content(self, role: str, parts: list[Any], message: message_pb2.Message, path: str) -> None:
        self._results, self._after = None, []
        content: dict[str, Any] = {"role": role, "parts": parts}
        self._extras(content, message.extra_json, path)
        if parts:
            self.contents.append(content)

    def _heard(self, message: message_pb2.Message, path: str) -> None:
        """A turn of the user or of tools: results first, all of one step in one content."""
        others: list[Any] = []
        for part, where in paths.of_parts(message, path):
            if part.WhichOneof("kind") == "tool_result":
                self._result(part.tool_result, path)
                self._uncached(part, path)
            elif message.role == message_pb2.ROLE_TOOL:
                raise invalid(where, f"`{where}`: a tool's message holds only tool results")
            elif (made := self._translated(part, where)) is not None:
                others.append(made)
        if not others and not any(part.WhichOneof("kind") == "tool_result" for part in message.parts):
            others = [{"text": ""}]
        if others:
            self._content("user", others, message, path)
        else:
            self._extras(None, message.extra_json, path)

    def _result(self, result: message_pb2.ToolResult, path: str) -> None:
        name = self._names.get(result.call_id)
        if name is None:
            raise invalid(
                f"{path}.tool_call_id",
                f"`{path}.tool_call_id`: no earlier assistant message has a tool call with the id {result.call_id!r}",
            )
        if self._results is None:
            self._results, self._after = [], []
            self.contents.append({"role": "user", "parts": self._results})
        pieces = [
            made
            for number, part in enumerate(result.content)
            if part.WhichOneof("kind") != "text"
            and (made := self._translated(part, f"{path}.content[{number}]")) is not None
        ]
        inside = pieces if self._newest else []
        self._results.append(results.function_response(result, name, inside, has_media=bool(pieces)))
        if pieces and not self._newest:
            self._report.emulated(f"{path}.content", "media of a tool result follow it as a user turn")
            if not self._after:
                self.contents.append({"role": "user", "parts": self._after})
            self._after.extend(pieces)

    def _said(self, message: message_pb2.Message, path: str) -> list[Any]:
        """A turn of the model."""
        parts: list[Any] = []
        first = True
        for part, where in paths.of_parts(message, path):
            if part.WhichOneof("kind") == "tool_call":
                parts.append(self._call(part, where, first=first))
                first = False
            elif (made := self._translated(part, where)) is not None:
                parts.append(made)
        return parts

    def _call(self, part: message_pb2.Part, path: str, *, first: bool) -> dict[str, Any]:
        call = part.tool_call
        self._names[call.id] = call.name
        field = f"{path}.function.arguments"
        args: object
        if call.type == message_pb2.TOOL_CALL_TYPE_CUSTOM:
            self._report.emulated(path, "free text is passed as the argument `input`")
            args = {"input": call.arguments.decode("utf-8", "replace")}
        else:
            args = wire.callers_object(call.arguments, field) if call.arguments.strip() else {}
        function: dict[str, Any] = {"name": call.name, "args": args}
        if call.id:
            function["id"] = call.id
        made: dict[str, Any] = {"functionCall": function}
        if not self._sign(made, part) and (
            signature := self._lost(part) or (UNSIGNED if first and self._newest else "")
        ):
            made["thoughtSignature"] = signature
        self._extras(made, part.extra_json, path)
        return made

    def _translated(self, part: message_pb2.Part, path: str) -> Any:
        """One part with its signature and extra fields; None when there is nothing to send."""
        match part.WhichOneof("kind"):
            case "text" if not part.text.text and not self._own_state(part):
                return None
            case "reasoning" if part.HasField("provider_state") and not self._own_state(part):
                self._report.dropped(path, "reasoning of another provider")
                return None
            case "reasoning" if not part.reasoning.text and not self._own_state(part):
                return None
            case "native" if part.native.dialect != wire.DIALECT:
                self._report.dropped(path, "only the provider that made it understands it")
                return None
            case "audio" if not part.audio.HasField("media"):
                return self._earlier_audio(part.audio, path)
            case _:
                return self._part(part, path)

    def _part(self, part: message_pb2.Part, path: str) -> Any:
        if part.WhichOneof("kind") == "native":
            return wire.callers_object(part.native.json, path)
        made = self._made(part, path)
        self._sign(made, part)
        self._uncached(part, path)
        self._extras(made, part.extra_json, path)
        return made

    def _uncached(self, part: message_pb2.Part, path: str) -> None:
        if part.HasField("cache_control"):
            self._report.dropped(f"{path}.cache_control", "Gemini caches by itself")

    def _made(self, part: message_pb2.Part, path: str) -> dict[str, Any]:
        match part.WhichOneof("kind"):
            case "text":
                return {"text": part.text.text}
            case "refusal":
                return {"text": part.refusal.text}
            case "reasoning":
                return {"text": part.reasoning.text, "thought": True}
            case "image":
                if part.image.detail not in {"", "auto"}:
                    self._report.dropped(f"{path}.image_url.detail", "Gemini has no such switch")
                return media.part(part.image.media, f"{path}.image_url", self._room)
            case "audio":
                kind = media.audio_type(part.audio.format)
                return media.part(part.audio.media, f"{path}.input_audio", self._room, media_type=kind)
            case "file":
                # The name only serves to tell the type: the API has no field for it.
                return media.part(part.file.media, f"{path}.file", self._room, filename=part.file.filename)
            case _:
                raise _unsupported(part, path)

    def _earlier_audio(self, audio: message_pb2.AudioPart, path: str) -> dict[str, Any] | None:
        if not audio.transcript:
            self._report.dropped(path, "audio kept by another provider")
            return None
        self._report.emulated(path, "audio kept by another provider is sent as its transcript")
        return {"text": audio.transcript}

    def _own_state(self, part: message_pb2.Part) -> bytes:
        state = part.provider_state
        return state.state if state.provider == wire.KIND else b""

    def _sign(self, made: dict[str, Any], part: message_pb2.Part) -> bool:
        """Put the part's thought signature back, where Gemini made it."""
        state = self._own_state(part)
        if state:
            made["thoughtSignature"] = state.decode("utf-8", "replace")
        return bool(state)

    def _lost(self, part: message_pb2.Part) -> str:
        """The signature that was kept for a call which came back without any; empty when there is none."""
        if self._kept is None or part.HasField("provider_state"):
            return ""
        return self._kept(part.tool_call, self._before)

    def _extras(self, target: dict[str, Any] | None, extra: bytes, path: str) -> None:
        report_or_merge(target, extra, path, own=self._dialect == wire.DIALECT, report=self._report)


def _unsupported(part: message_pb2.Part, path: str) -> GatewayError:
    kind = (part.WhichOneof("kind") or "empty part").replace("_", " ")
    return GatewayError("UNSUPPORTED", f"`{path}`: Gemini takes no {kind} here", details={"param": path})


def report_or_merge(target: dict[str, Any] | None, extra: bytes, path: str, *, own: bool, report: Report) -> None:
    """Put the caller's extra fields into `target` when they are Gemini's `own`, else report each that says anything."""
    if not extra:
        return
    if own and target is not None:
        wire.merge(target, extra, path or "extra_json")
        return
    try:
        source = wire.fields(extra)
    except msgspec.DecodeError as error:
        raise invalid(path or "extra_json", "extra fields must be a JSON object") from error
    for name, value in source.items():
        if bytes(value) not in _NOTHING:
            report.dropped(f"{path}.{name}" if path else name)
