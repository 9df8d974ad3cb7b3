"""Page tokens: ours come back whole, others are refused."""

from __future__ import annotations

import pytest
from aigateway.v1.usage_service_pb2 import AttemptFilter
from aigateway_common.errors import GatewayError
from aigateway_usage.paging import Position, decode, encode
from hypothesis import given
from hypothesis import strategies as st

_FILTER = AttemptFilter(providers=["openai"])
_POSITIONS = st.builds(
    Position, st.integers(0, 2**63 - 1), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64)
)


@given(_POSITIONS)
def test_a_token_comes_back_as_its_position(position: Position) -> None:
    assert decode(encode(position, _FILTER), _FILTER) == position


@given(st.text(min_size=1))
def test_made_up_tokens_are_refused(token: str) -> None:
    with pytest.raises(GatewayError) as caught:
        decode(token, _FILTER)
    assert (caught.value.reason.name, caught.value.details) == ("INVALID_REQUEST", {"param": "page_token"})


@given(_POSITIONS, st.data())
def test_cut_and_altered_tokens_are_refused_or_whole(position: Position, data: st.DataObject) -> None:
    token = encode(position, _FILTER)
    at = data.draw(st.integers(0, len(token) - 1))
    altered = token[:at] + data.draw(st.sampled_from("Aa0-_=. ")) + token[at + 1 :]
    for bad in (token[:at] or "x", altered):
        try:
            found = decode(bad, _FILTER)
        except GatewayError as error:
            assert error.details == {"param": "page_token"}  # noqa: PT017 -- either end is right
        else:
            assert found is not None
            assert 0 <= found.started_at_us < 2**63


def test_a_token_belongs_to_its_filter() -> None:
    token = encode(Position(1, "a"), _FILTER)
    with pytest.raises(GatewayError, match="another `filter`"):
        decode(token, AttemptFilter(providers=["groq"]))


def test_no_token_is_the_first_page() -> None:
    assert decode("", _FILTER) is None
