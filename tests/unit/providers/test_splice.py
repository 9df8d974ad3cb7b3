"""The caller's JSON put into a body: unchanged, checked, and never over what is refused."""

from __future__ import annotations

import orjson
import pytest
from aigateway_common.errors import GatewayError
from aigateway_providers import splice


def test_values_are_written_as_they_came() -> None:
    body: dict[str, object] = {"a": 1, "keep": {"x": 1, "y": {"z": 1}}}
    splice.merge(body, b' {"a": 1e2, "keep": {"y": {"w": 99999999999999999999}}, "b": [1.0, "\xc3\xa9"]} ', "extra")
    assert orjson.dumps(body) == (
        b'{"a":1e2,"keep":{"x":1,"y":{"z":1,"w":99999999999999999999}},"b":[1.0, "\xc3\xa9"]}'
    )


def test_nothing_is_merged_from_nothing() -> None:
    body: dict[str, object] = {"a": 1}
    splice.merge(body, b"", "extra")
    assert body == {"a": 1}


@pytest.mark.parametrize("json", [b"[]", b"1", b"{", b'{"a":1}}', b'{"a":}', b"null"])
def test_what_is_no_object_is_refused_by_name(json: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        splice.merge({}, json, "extra")
    assert caught.value.details == {"param": "extra"}


def test_refused_members_are_named() -> None:
    with pytest.raises(GatewayError) as caught:
        splice.merge({}, b'{"model": "x"}', "extra", refused={"model"})
    assert caught.value.details == {"param": "extra.model"}


def test_a_fragment_is_one_value() -> None:
    assert orjson.dumps([splice.fragment(b' {"a": 1} ', "f")]) == b'[{"a": 1}]'
    with pytest.raises(GatewayError):
        splice.fragment(b"1, 2", "f")
