"""A streamed answer of `streamGenerateContent` as `ChatEvent`s.

Pure: records in, events out. Each record is a whole answer with only what is new in its parts; counts are repeated and
raised; `finishReason` may come with every record, so that a choice is finished only when the stream is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError

from aigateway_providers import upstream_errors
from aigateway_providers.gemini import errors, response, wire
from aigateway_providers.gemini.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from msgspec import Raw

    from aigateway_providers.gemini.records import Records

Event = chat_pb2.ChatEvent


@dataclass(slots=True)
class _Choice:
    """How far one of the answers has come."""

    index: int
    part: int = -1
    kind: str = ""
    """What the open part is: `text` or `reasoning`, or nothing when the next piece begins a part of its own."""
    calls: int = 0
    native_reason: str = ""

    def begin(self, kind: str = "") -> int:
        """The number of a new part, or of the open one when it is of the same kind."""
        if not kind or kind != self.kind:
            self.part += 1
        self.kind = kind
        return self.part


class ChatStream:
    """Turns the bytes of one stream into events. After `failure` is set nothing more comes."""

    def __init__(
        self,
        records: Records,
        *,
        provider: str,
        model: str,
        created: int,
        notes: Sequence[chat_pb2.TranslationNote],
    ) -> None:
        self.failure: GatewayError | None = None
        """Why the stream ended before its answer did; raise it once the events before it have been handed on."""
        self._records = records
        self._provider = provider
        self._model = model
        self._created = created
        self._notes = notes
        self._usage = Usage()
        self._started = False
        self._extra = b""
        self._blocked = ""
        self._choices: dict[int, _Choice] = {}

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` brings."""
        return self._read(chunk)

    def close(self) -> list[Event]:
        """The last events, once the provider has closed the stream."""
        events = self._read(None)
        if self.failure is not None:
            return events
        if not self._complete():
            self.failure = upstream_errors.cut_short(self._provider)
            return events + self.interrupted()
        if self._blocked and not self._choices:
            finish = chat_pb2.StreamFinish(reason=chat_pb2.FINISH_REASON_CONTENT_FILTER, native_reason=self._blocked)
            events.append(Event(finish=finish))
        events.extend(self._finish(choice) for _, choice in sorted(self._choices.items()))
        if usage := self._usage.proto():
            events.append(Event(usage=usage))
        return events

    def interrupted(self) -> list[Event]:
        """The tokens known so far, for a stream that broke off after it began."""
        usage = self._usage.proto(estimated=True) if self._started else None
        return [Event(usage=usage)] if usage else []

    def _read(self, chunk: bytes | None) -> list[Event]:
        events: list[Event] = []
        try:
            for record in self._records.close() if chunk is None else self._records.feed(chunk):
                if record != b"[DONE]":  # some proxies end every event stream as OpenAI does
                    self._record(wire.compact(record), events)
        except upstream_errors.UNREADABLE:
            self.failure = wire.unreadable(self._provider)
        except GatewayError as error:
            self.failure = error
        return events + self.interrupted() if self.failure else events

    def _complete(self) -> bool:
        if not self._choices:
            return bool(self._blocked)
        return all(choice.native_reason for choice in self._choices.values())

    def _record(self, record: bytes, events: list[Event]) -> None:
        answer = wire.fields(record)
        if "error" in answer:
            raise errors.from_body(self._provider, 0, record)
        if "usageMetadata" in answer:
            self._usage.see(answer["usageMetadata"])
        extra = wire.rest(answer, response.ANSWER_FIELDS)
        if not self._started:
            self._start(answer, extra, events)
        elif extra and extra != self._extra:
            events.append(Event(extra=chat_pb2.StreamExtra(), extra_json=extra))
        candidates = wire.objects(answer.get("candidates"))
        if not candidates and "promptFeedback" in answer:
            self._blocked = response.block_reason(answer)
        for candidate in candidates:
            self._candidate(candidate, events)

    def _start(self, answer: Mapping[str, Raw], extra: bytes, events: list[Event]) -> None:
        self._started = True
        self._extra = extra
        start = chat_pb2.StreamStart(
            id=response.answer_id(answer),
            created=self._created,
            model=wire.text(answer.get("modelVersion")) or self._model,
            translation=self._notes,
            dialect=wire.DIALECT,
            extra_json=extra,
            usage=self._usage.proto(),
        )
        events.append(Event(start=start))

    def _candidate(self, candidate: Mapping[str, Raw], events: list[Event]) -> None:
        index = wire.place(candidate.get("index"))
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        if "finishReason" in candidate:
            choice.native_reason = wire.text(candidate["finishReason"])
        begun = len(events)
        for raw in response.content_parts(candidate):
            _part(choice, raw, events)
        extra = wire.rest(candidate, response.CANDIDATE_FIELDS)
        logprobs = response.logprobs(candidate.get("logprobsResult"))
        if logprobs and (spoken := next((e for e in events[begun:] if e.WhichOneof("event") == "text"), None)):
            spoken.logprobs_json, logprobs = logprobs, b""
        if extra or logprobs:
            events.append(
                Event(
                    choice=index,
                    part=max(0, choice.part),
                    extra=chat_pb2.StreamExtra(),
                    choice_extra_json=extra,
                    logprobs_json=logprobs,
                )
            )

    def _finish(self, choice: _Choice) -> Event:
        return Event(
            choice=choice.index,
            part=max(0, choice.part),
            finish=chat_pb2.StreamFinish(
                reason=response.finish_reason(choice.native_reason, called=choice.calls > 0),
                native_reason=choice.native_reason,
            ),
        )


def _part(choice: _Choice, raw: Raw, events: list[Event]) -> None:
    """The events of one part."""
    source = wire.fields(raw)
    signature = wire.text(source.get("thoughtSignature"))
    if response.is_native(source):
        events.append(Event(choice=choice.index, part=choice.begin(), native=response.native(raw)))
        return
    extra = wire.rest(source, response.PART_FIELDS)
    if "functionCall" in source:
        _tool_call(choice, source["functionCall"], extra, events)
    elif "inlineData" in source:
        _inline(choice, raw, source["inlineData"], extra, events)
    else:
        _text(choice, source, extra, events, signed=bool(signature))
    if signature:
        events.append(Event(choice=choice.index, part=choice.part, provider_state=response.state(signature)))
        choice.kind = ""  # a signature closes its part: what follows must not be joined to it


def _text(choice: _Choice, source: Mapping[str, Raw], extra: bytes, events: list[Event], *, signed: bool) -> None:
    """More text or reasoning. A signed piece is a part of its own, even when it is empty, as streams end with."""
    text = wire.text(source.get("text"))
    if not text and not signed:
        return
    kind = "reasoning" if wire.flag(source.get("thought")) else "text"
    if signed:
        choice.kind = ""
    part = choice.begin(kind)
    if kind == "text":
        events.append(Event(choice=choice.index, part=part, text=text, delta_extra_json=extra))
    else:
        events.append(Event(choice=choice.index, part=part, reasoning=text, delta_extra_json=extra))


def _tool_call(choice: _Choice, raw: Raw, extra: bytes, events: list[Event]) -> None:
    """A function call, which comes whole."""
    call = response.tool_call(raw)
    part = choice.begin()
    start = chat_pb2.ToolCallStart(id=call.id, name=call.name, index=choice.calls, type=call.type)
    choice.calls += 1
    events.append(Event(choice=choice.index, part=part, tool_call=start, delta_extra_json=extra))
    events.append(Event(choice=choice.index, part=part, arguments=call.arguments.decode("utf-8", "replace")))


def _inline(choice: _Choice, raw: Raw, data: Raw, extra: bytes, events: list[Event]) -> None:
    """Sound as audio; a picture whole, since there is no such thing as half of one."""
    media = response.blob(data)
    if media.media_type.startswith("audio/"):
        audio = chat_pb2.AudioDelta(data=media.data)
        events.append(Event(choice=choice.index, part=choice.begin("audio"), audio=audio, delta_extra_json=extra))
    else:
        events.append(Event(choice=choice.index, part=choice.begin(), native=response.native(raw)))
