"""What an answer cites, in each dialect: shown where it has a form there, else reported; whole and streamed alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.sse import SSEReader
from aigateway_edge import citations
from aigateway_edge.anthropic.events import Events as MessageEvents
from aigateway_edge.anthropic.from_proto import message
from aigateway_edge.completions.from_proto import TextChunks, text_completion
from aigateway_edge.openai.chunks import Chunks
from aigateway_edge.openai.from_proto import chat_completion
from aigateway_edge.responses.events import Events as ResponseEvents
from aigateway_edge.responses.from_proto import response
from aigateway_edge.responses.state import Ids
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from support.edge import Event, finish, start

CHAT, RESPONSES = message_pb2.DIALECT_OPENAI_CHAT, message_pb2.DIALECT_OPENAI_RESPONSES
CLAUDE, GEMINI = message_pb2.DIALECT_ANTHROPIC_MESSAGES, message_pb2.DIALECT_GEMINI
ECHO: dict[str, Any] = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {}}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)

FLAT = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 1, "end_index": 3}
NESTED = {"type": "url_citation", "url_citation": {key: FLAT[key] for key in FLAT if key != "type"}}
FILE = {"type": "file_citation", "file_id": "f", "index": 0, "filename": "n"}
TOKEN = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
LOGPROBS = json.dumps({"content": [TOKEN], "refusal": None}).encode()


def text(said: str, **extra: Any) -> message_pb2.Part:
    return message_pb2.Part(text=message_pb2.TextPart(text=said), extra_json=json.dumps(extra).encode())


def answer(*parts: message_pb2.Part, dialect: Any, in_message: Any = None, in_choice: Any = None) -> Any:
    given = [b"" if extra is None else json.dumps(extra).encode() for extra in (in_message, in_choice)]
    told = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts, extra_json=given[0])
    choice = chat_pb2.Choice(message=told, finish_reason=chat_pb2.FINISH_REASON_STOP, extra_json=given[1])
    return chat_pb2.ChatCompletion(id="x", created=7, model="m", choices=[choice], dialect=dialect)


def cited(part: int = 0, *, in_choice: bool = False, logprobs: bytes = b"", **extra: Any) -> chat_pb2.ChatEvent:
    given_: Any = {"choice_extra_json" if in_choice else "delta_extra_json": json.dumps(extra).encode()}
    return Event(part=part, extra=chat_pb2.StreamExtra(), logprobs_json=logprobs, **given_)


def fields(notes: list[chat_pb2.TranslationNote]) -> list[str]:
    assert all(note.action == chat_pb2.TRANSLATION_ACTION_DROPPED for note in notes)
    return [f"{note.field} {note.detail}".strip() for note in notes]


def written(writer: Any, *events: chat_pb2.ChatEvent, dialect: Any) -> tuple[list[Any], list[str]]:
    """The records of a stream, and its comments."""
    data: bytes = writer.write([start(dialect=dialect)])
    for event in (*events, finish()):
        data += writer.write([event])
    data += writer.end()
    comments = [line for line in data.decode().split("\n") if line.startswith(": x-gateway-translation")]
    records = [json.loads(record.data) for record in SSEReader().feed(data) if record.data != b"[DONE]"]
    return records, [comment.removeprefix(": x-gateway-translation: ") for comment in comments]


def chunks() -> Chunks:
    return Chunks(request_id="r", include_usage=False)


# Responses to Chat Completions.


def test_addresses_that_responses_cites_stand_beside_a_chat_message() -> None:
    told = answer(text("See", annotations=[]), text("Hi ho", annotations=[FLAT, FILE]), dialect=RESPONSES)
    body, notes = chat_completion(told, request_id="r")
    (choice,) = ChatCompletion.model_validate_json(body).choices
    (annotation,) = choice.message.annotations or []
    assert choice.message.content == "SeeHi ho"
    assert annotation.to_dict() == {
        "type": "url_citation",
        "url_citation": {"url": "https://a.example", "title": "A", "start_index": 4, "end_index": 6},
    }
    assert fields(notes) == ["choices[0].message.parts[1].annotations file_citation"]


def test_addresses_that_responses_cites_stand_in_a_delta_of_a_chat_stream() -> None:
    events = [Event(text="S"), Event(text="ee"), Event(part=1, text="Hi ho"), cited(1, annotations=[FLAT, FILE])]
    records, comments = written(chunks(), *events, dialect=RESPONSES)
    for record in records:
        ChatCompletionChunk.model_validate(record)
    moved = NESTED["url_citation"] | {"start_index": 4, "end_index": 6}  # type: ignore[operator] # the object of the two
    assert [record["choices"][0]["delta"] for record in records[4:]] == [
        {"annotations": [{"type": "url_citation", "url_citation": moved}]},
        {},
    ]
    assert comments == ["choices[0]=dropped(file_citation)"]


def test_log_probabilities_that_come_after_their_text_are_shown() -> None:
    """As Gemini and Ollama stream them."""
    records, comments = written(chunks(), Event(text="Hi"), cited(logprobs=LOGPROBS), dialect=GEMINI)
    assert [record["choices"][0]["logprobs"] for record in records] == [None, None, json.loads(LOGPROBS), None]
    assert comments == []
    responses = ResponseEvents(ECHO, Ids("t"))
    records, comments = written(responses, Event(text="Hi"), cited(logprobs=LOGPROBS), dialect=GEMINI)
    assert records[-1]["response"]["output"][0]["content"][0]["logprobs"] == [TOKEN]
    assert comments == []


# Chat Completions to Responses.


def test_addresses_that_a_chat_message_cites_stand_with_the_text_of_responses() -> None:
    told = answer(text("Hi ho"), dialect=CHAT, in_message={"annotations": [NESTED, {"type": "file"}]})
    body, notes = response(told, ECHO, Ids("t"))
    Response.model_validate_json(body)
    assert json.loads(body)["output"][0]["content"] == [
        {"type": "output_text", "text": "Hi ho", "annotations": [FLAT], "logprobs": []}
    ]
    assert fields(notes) == ["message.annotations file"]


@pytest.mark.parametrize("with_text", [False, True])
def test_addresses_that_a_chat_stream_cites_are_events_of_responses(with_text: bool) -> None:
    extra = json.dumps({"annotations": [NESTED, {"type": "file"}]}).encode()
    last = Event(text=" ho", delta_extra_json=extra) if with_text else cited(annotations=[NESTED, {"type": "file"}])
    records, comments = written(ResponseEvents(ECHO, Ids("t")), Event(text="Hi"), last, dialect=CHAT)
    for record in records:
        EVENT.validate_python(record)
    told = [record for record in records if record["type"] == "response.output_text.annotation.added"]
    assert [(record["annotation"], record["annotation_index"], record["content_index"]) for record in told] == [
        (FLAT, 0, 0)
    ]
    assert records[-1]["response"]["output"][0]["content"][0]["annotations"] == [FLAT]
    assert comments == ["output[1]=dropped(file)"]


def test_citations_without_a_text_are_reported() -> None:
    _, notes = response(answer(dialect=CHAT, in_message={"annotations": [NESTED]}), ECHO, Ids("t"))
    assert fields(notes) == ["message.annotations"]
    _, comments = written(ResponseEvents(ECHO, Ids("t")), cited(annotations=[NESTED]), dialect=CHAT)
    assert comments == ["output[0]=dropped(annotations)"]


# What no dialect but the provider's own can show.

FOREIGN = [
    pytest.param(CLAUDE, {"citations": [{"type": "char_location"}]}, None, "citations", id="Anthropic"),
    pytest.param(GEMINI, {}, {"groundingMetadata": {"webSearchQueries": ["x"]}}, "groundingMetadata", id="Gemini"),
]


@pytest.mark.parametrize(("dialect", "in_part", "in_choice", "name"), FOREIGN)
def test_citations_of_other_providers_are_reported_in_openais_dialects(
    dialect: Any, in_part: Any, in_choice: Any, name: str
) -> None:
    told = answer(text("Hi", **in_part), dialect=dialect, in_choice=in_choice)
    for body, notes in (
        chat_completion(told, request_id="r"),
        response(told, ECHO, Ids("t")),
        text_completion(told, request_id="r"),
    ):
        (note,) = fields(notes)
        assert note.endswith(f".{name}")
        assert name.encode() not in body


@pytest.mark.parametrize(("dialect", "in_part", "in_choice", "name"), FOREIGN)
def test_citations_of_other_providers_leave_one_comment_in_openais_streams(
    dialect: Any, in_part: Any, in_choice: Any, name: str
) -> None:
    event = cited(in_choice=bool(in_choice), **(in_choice or in_part))
    for writer, place in (
        (chunks(), "choices[0]"),
        (ResponseEvents(ECHO, Ids("t")), "output[1]"),
        (TextChunks(request_id="r", include_usage=False), "choices[0]"),
    ):
        records, comments = written(writer, Event(text="Hi"), event, event, dialect=dialect)
        assert comments == [f"{place}=dropped({name})"]
        assert name not in json.dumps(records)


@pytest.mark.parametrize(
    ("told", "note"),
    [
        (answer(text("Hi", annotations=[FLAT]), dialect=RESPONSES), "content[0].annotations"),
        (answer(text("Hi"), dialect=CHAT, in_message={"annotations": [NESTED]}), "message.annotations"),
        (answer(text("Hi"), dialect=GEMINI, in_choice={"citationMetadata": {"a": 1}}), "choices[0].citationMetadata"),
    ],
)
def test_anthropics_dialect_reports_what_others_cite_and_log_probabilities(told: Any, note: str) -> None:
    told.choices[0].logprobs_json = LOGPROBS
    body, notes = message(told, request_id="r")
    assert sorted(fields(notes)) == sorted([note, "choices[0].logprobs"])
    assert json.loads(body)["content"] == [{"type": "text", "text": "Hi"}]


def test_anthropics_streams_report_the_same_once() -> None:
    events = [Event(text="Hi", logprobs_json=LOGPROBS), Event(text="!", logprobs_json=LOGPROBS)]
    writer = MessageEvents(request_id="r")
    _, comments = written(writer, *events, cited(annotations=[FLAT]), cited(annotations=[FLAT]), dialect=RESPONSES)
    assert comments == ["content=dropped(logprobs)", "content=dropped(annotations)"]


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_citing_nothing_is_not_reported(nothing: Any) -> None:
    told = answer(text("Hi", citations=nothing, annotations=nothing), dialect=CLAUDE)
    assert chat_completion(told, request_id="r")[1] == []
    assert response(told, ECHO, Ids("t"))[1] == []
    assert citations.fields(json.dumps({"citations": nothing, "other": [1]}).encode()) == []


def test_a_provider_of_the_same_dialect_is_shown_what_it_cites_unchanged_and_unreported() -> None:
    body, notes = message(answer(text("Hi", citations=[{"type": "x"}]), dialect=CLAUDE), request_id="r")
    assert (json.loads(body)["content"], notes) == ([{"type": "text", "text": "Hi", "citations": [{"type": "x"}]}], [])
    body, notes = chat_completion(
        answer(text("Hi"), dialect=CHAT, in_message={"annotations": [{"type": "file"}]}), request_id="r"
    )
    assert (json.loads(body)["choices"][0]["message"]["annotations"], notes) == ([{"type": "file"}], [])
    extra = {"id": "m", "annotations": [FILE], "logprobs": []}
    body, notes = response(answer(text("Hi", **extra), dialect=RESPONSES), ECHO, Ids("t"))
    assert (json.loads(body)["output"][0]["content"][0]["annotations"], notes) == ([FILE], [])


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda more: st.lists(more) | st.dictionaries(st.text(), more),
)


@given(st.lists(st.just(FLAT) | st.just(NESTED) | JSON) | JSON, st.integers(0, 9))
def test_whatever_a_host_writes_there_is_shown_or_named(annotations: Any, before: int) -> None:
    given_ = json.dumps({"annotations": annotations}).encode()
    count = len(annotations) if isinstance(annotations, list) else 0
    for shown, others in (citations.chat_of_responses(given_, before), citations.responses_of_chat(given_)):
        assert len(shown) + len(others) == count
        assert all(json.loads(json.dumps(one))["type"] == "url_citation" for one in shown)


def test_a_number_too_large_is_named_and_breaks_nothing() -> None:
    broken = b'{"annotations":[{"type":"url_citation","start_index":1e999}]}'
    assert citations.chat_of_responses(broken, 0) == ([], ["annotation"])
