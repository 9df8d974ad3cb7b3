"""What a URL of NATS may look like, and that nothing secret in it is shown."""

from __future__ import annotations

import pytest
from aigateway_common.event_stream import Address, EventStream, address


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("nats://n:4222", Address(("nats://n:4222",))),
        ("tls://n", Address(("tls://n",))),
        ("nats://[::1]:4222", Address(("nats://[::1]:4222",))),
        ("nats://me:p%40ss%2F@n:4222", Address(("nats://n:4222",), user="me", password="p@ss/")),
        ("nats://a-token@n:4222/", Address(("nats://n:4222",), token="a-token")),
        ("nats://u:p@a:1, nats://u:p@b:2", Address(("nats://a:1", "nats://b:2"), user="u", password="p")),
    ],
)
def test_a_url_is_taken_apart(url: str, found: Address) -> None:
    assert address(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "n:4222",
        "redis://n",
        "ws://n:80",
        "nats://",
        "nats://u:secret@",
        "nats://n:port",
        "nats://u:sec/ret@n:4222",
        "nats://n:0",
        "nats://n:99999",
        "nats://n/path",
        "nats://n?tls=secret",
        "nats://a,secret",
    ],
)
def test_what_is_no_url_of_nats_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must be nats://host:4222 or tls://host:4222") as caught:
        address(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_secrets_are_not_shown() -> None:
    text = repr((EventStream("nats://u:secret@n"), address("nats://u:secret@n"), address("nats://secret@n")))
    assert "secret" not in text
    assert "nats://n" in text
