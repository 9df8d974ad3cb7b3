"""Keys: which are taken, how they may be sent, and that they show nowhere."""

from __future__ import annotations

import pytest
from aigateway_common.errors import GatewayError
from aigateway_router.authn import Authenticator, key_id

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
    assert Authenticator([ONE, TWO]).identify(metadata) == key_id(TWO)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "send it as `authorization: Bearer KEY`"),
        ({"authorization": ""}, "send it as"),
        ({"authorization": f"Basic {ONE}"}, "send it as"),
        ({"authorization": "Bearer "}, "send it as"),
        ({"x-api-key": ""}, "send it as"),
        ({"authorization": "Bearer wrong"}, "wrong"),
        ({"authorization": f"Bearer {ONE}x"}, "wrong"),
        ({"x-api-key": ONE[:-1]}, "wrong"),
    ],
)
def test_a_missing_or_wrong_key_is_refused_with_the_fix(metadata: dict[str, str], says: str) -> None:
    with pytest.raises(GatewayError) as caught:
        Authenticator([ONE]).identify(metadata)
    assert caught.value.reason.name == "UNAUTHENTICATED"
    assert says in caught.value.message
    assert ONE not in caught.value.message


def test_without_keys_the_gateway_is_open() -> None:
    assert Authenticator([]).identify({}) == ""
    assert Authenticator([]).identify({"authorization": "Bearer anything"}) == ""


def test_an_empty_key_is_a_mistake_and_not_an_open_door() -> None:
    with pytest.raises(ValueError, match="key is empty"):
        Authenticator([ONE, " "])


def test_the_visible_id_tells_keys_apart_and_shows_nothing_of_them() -> None:
    assert key_id(ONE) != key_id(TWO)
    assert key_id(ONE) == key_id(ONE)
    assert len(key_id(ONE)) == 12
    assert "gw-" not in key_id(ONE)


def test_a_key_outside_ascii_is_compared_and_not_crashed_on() -> None:
    assert Authenticator(["schlüssel-für-alle"]).identify({"x-api-key": "schlüssel-für-alle"})
