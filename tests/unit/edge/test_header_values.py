"""Response headers: safe whatever a provider wrote, and bounded."""

from __future__ import annotations

from aigateway.v1 import chat_pb2
from aigateway_edge.header_values import MAX_TRANSLATION, safe, sane_request_id, server_timing, translation
from hypothesis import given
from hypothesis import strategies as st

notes = st.lists(
    st.builds(
        lambda field, action, detail: chat_pb2.TranslationNote(field=field, action=action, detail=detail),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.sampled_from([0, 1, 2, 3]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
    ),
    max_size=60,
)


@given(notes)
def test_any_report_is_printable_ascii_and_bounded(report: list[chat_pb2.TranslationNote]) -> None:
    value = translation(report)
    assert len(value) <= MAX_TRANSLATION
    assert all(32 <= byte < 127 for byte in value)


def test_a_long_report_says_how_much_was_left_out() -> None:
    note = chat_pb2.TranslationNote(field="x" * 200, action=chat_pb2.TRANSLATION_ACTION_DROPPED)
    entries = translation([note] * 50).split(b"; ")
    assert entries[0] == b"x" * 200 + b"=dropped"
    assert entries[-1] == b"+%d" % (50 - len(entries) + 1)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_value_is_printable_ascii(text: str) -> None:
    assert all(32 <= byte < 127 for byte in safe(text))


def test_the_edge_is_what_the_hops_below_leave() -> None:
    timing = chat_pb2.CallTiming(upstream_us=1500, adapter_us=200, router_us=300)
    value, edge = server_timing(timing, 2_500_000)
    assert value == b"edge;dur=0.500, router;dur=0.300, adapter;dur=0.200, upstream;dur=1.500"
    assert abs(edge - 0.0005) < 1e-9


def test_request_ids_are_short_and_plain() -> None:
    assert sane_request_id(b"01J-abc.DEF_9:x/y+z=@")
    assert not any(sane_request_id(value) for value in (None, b"", b"a b", b"a\r\nb", b"x" * 129, b'"', b"\xc3\xa9"))
