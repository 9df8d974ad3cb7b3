"""Keys: which are taken, how they may be sent, and that they show nowhere."""

from __future__ import annotations

import pytest
from aigateway_router.authn import KeyRing, digest, key_id, looks_like_token, presented

ONE, TWO = "gw-one-0123456789", "gw-two-0123456789"


@pytest.mark.parametrize(
    "metadata",
    [
        {"authorization": f"Bearer {TWO}"},
        {"authorization": f"bearer  {TWO} "},
        {"x-api-key": TWO},
        {"api-key": TWO},
        {"x-api-key": TWO, "authorization": "Bearer an-sdk-wants-one"},
        {"authorization": f"Bearer {TWO}", "api-key": "other"},
    ],
)
def test_every_way_to_send_a_key_is_taken(metadata: dict[str, str]) -> None:
    assert TWO in presented(metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"authorization": ""},
        {"authorization": f"Basic {ONE}"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"x-key-id": ONE, "x-project": ONE, "x-actor": ONE},
    ],
)
def test_nothing_else_is_a_key(metadata: dict[str, str]) -> None:
    assert presented(metadata) == []


def test_a_key_is_found_whole_or_not_at_all() -> None:
    ring = KeyRing([ONE, TWO])
    assert [ring.find(digest(key)) for key in (ONE, TWO)] == [key_id(ONE), key_id(TWO)]
    assert [ring.find(digest(key)) for key in ("", "wrong", f"{ONE}x", ONE[:-1])] == [None] * 4
    assert KeyRing([]).find(digest(ONE)) is None


def test_an_empty_key_is_a_mistake_and_not_an_open_door() -> None:
    with pytest.raises(ValueError, match="key is empty"):
        KeyRing([ONE, " "])


def test_the_visible_id_tells_keys_apart_and_shows_nothing_of_them() -> None:
    assert key_id(ONE) != key_id(TWO)
    assert key_id(ONE) == key_id(ONE)
    assert len(key_id(ONE)) == 12
    assert "gw-" not in key_id(ONE)


def test_a_key_outside_ascii_is_compared_and_not_crashed_on() -> None:
    assert KeyRing(["schlüssel-für-alle"]).find(digest("schlüssel-für-alle"))
    assert KeyRing([ONE]).find(digest("\ud800")) is None


def test_a_token_is_told_from_a_key_by_its_form() -> None:
    assert looks_like_token("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln")
    assert not any(looks_like_token(key) for key in (ONE, "ey", "sk-a.b.c", "eyJ.only-two", "ey.a.b.c"))
