"""What the router makes of a stream's events."""

from __future__ import annotations

import pytest
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, tokens_pb2
from aigateway_common.errors import GatewayError
from aigateway_router import estimates
from aigateway_router.stream_state import StreamState
from hypothesis import given
from hypothesis import strategies as st

Event = chat_pb2.ChatEvent
Usage = tokens_pb2.TokenUsage
START = Event(start=chat_pb2.StreamStart(id="1", model="acme-1-2026"))


def finish(choice: int = 0, native: str = "end_turn") -> chat_pb2.ChatEvent:
    return Event(choice=choice, finish=chat_pb2.StreamFinish(native_reason=native))


def followed(*events: chat_pb2.ChatEvent) -> StreamState:
    state = StreamState()
    for event in events:
        state.follow([event])
    return state


def test_a_stream_is_complete_when_all_its_choices_are() -> None:
    assert not followed().complete
    assert not followed(START).complete
    assert not followed(START, Event(text="a")).complete
    assert followed(START, Event(text="a"), finish()).complete
    assert followed(START, finish()).complete
    assert not followed(START, Event(text="a"), Event(choice=1, text="b"), finish()).complete
    assert followed(START, Event(text="a"), Event(choice=1, text="b"), finish(1), finish()).complete
    assert not followed(START, finish(), Event(choice=1, text="late")).complete


def test_what_follows_a_finish_does_not_open_its_choice_again() -> None:
    state = followed(
        START,
        Event(text="a"),
        finish(),
        Event(extra=chat_pb2.StreamExtra()),
        Event(provider_state=message_pb2.ProviderState(provider="acme", state=b"s")),
        Event(usage=Usage(output_text=3)),
    )
    assert state.complete
    assert state.has_final_usage


def test_a_stream_that_does_not_begin_with_its_start_is_invalid() -> None:
    with pytest.raises(GatewayError, match="does not begin with its start") as caught:
        followed(Event(text="a"))
    assert caught.value.reason.name == "UPSTREAM_INVALID"


def test_a_stream_cut_short_is_invalid() -> None:
    followed(START, Event(text="a"), finish()).check_ended()
    for cut in (followed(), followed(START), followed(START, Event(text="a"))):
        with pytest.raises(GatewayError, match="ended before its answer was finished") as caught:
            cut.check_ended()
        assert caught.value.reason.name == "UPSTREAM_INVALID"


def test_usage_is_set_class_by_class_and_never_summed() -> None:
    start = chat_pb2.StreamStart(model="m", usage=Usage(input_uncached=10, input_cache_read=90, output_text=1))
    state = followed(Event(start=start), finish(), Event(usage=Usage(output_text=25, native_json=b"{}")))
    assert state.usage == Usage(input_uncached=10, input_cache_read=90, output_text=25, native_json=b"{}")


def test_names_and_lengths_are_noted() -> None:
    state = followed(
        START,
        Event(reasoning="hmm"),
        Event(part=1, text="héllo"),
        Event(part=2, tool_call=chat_pb2.ToolCallStart(id="c", name="f")),
        Event(part=2, arguments='{"a":1}'),
        Event(part=3, refusal="no"),
        finish(native="tool_use"),
    )
    assert (state.answered_model, state.finish_reason) == ("acme-1-2026", "tool_use")
    assert (state.text, state.reasoning) == (5 + 7 + 2, 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12))
def test_complete_means_every_choice_seen_has_finished(steps: list[tuple[int, bool]]) -> None:
    state, seen, finished = followed(START), set[int](), set[int]()
    for choice, ends in steps:
        state.follow([finish(choice) if ends else Event(choice=choice, text="x")])
        seen.add(choice)
        if ends:
            finished.add(choice)
    assert state.complete == (bool(finished) and seen == finished)


def test_a_cut_off_answer_is_guessed_from_its_length_and_flagged() -> None:
    assert estimates.estimated(None, prompt=7, output_characters=9, reasoning_characters=0) == Usage(
        input_uncached=7, output_text=3, estimated=True
    )
    known = Usage(input_uncached=2, input_cache_read=50, output_text=1)
    assert estimates.estimated(known, prompt=99, output_characters=40, reasoning_characters=8) == Usage(
        input_uncached=2, input_cache_read=50, output_text=10, output_reasoning=2, estimated=True
    )
    assert known == Usage(input_uncached=2, input_cache_read=50, output_text=1)
    assert estimates.estimated(None, prompt=0, output_characters=0, reasoning_characters=0) == Usage(estimated=True)


def test_a_prompt_is_guessed_from_its_text_alone() -> None:
    call = chat_pb2.ChatCall(
        messages=[
            message_pb2.Message(
                parts=[
                    message_pb2.Part(text=message_pb2.TextPart(text="x" * 40)),
                    message_pb2.Part(
                        image=message_pb2.ImagePart(media=message_pb2.Media(data=bytes(10_000), media_type="image/png"))
                    ),
                ]
            ),
            message_pb2.Message(
                parts=[
                    message_pb2.Part(
                        tool_result=message_pb2.ToolResult(
                            content=[message_pb2.Part(text=message_pb2.TextPart(text="y" * 20))]
                        )
                    )
                ]
            ),
        ],
        tools=[message_pb2.Tool(function=message_pb2.FunctionTool(name="f" * 8))],
    )
    assert estimates.chat_prompt(call) == 17
    embed = embedding_pb2.EmbedCall(
        inputs=[
            embedding_pb2.EmbeddingInput(text="abcde"),
            embedding_pb2.EmbeddingInput(tokens=embedding_pb2.TokenIds(ids=[1, 2, 3])),
        ]
    )
    assert estimates.embed_prompt(embed) == 5
