"""Secrets of keys."""

from __future__ import annotations

import re

from aigateway_router.authn import key_id
from aigateway_usage.keys import ID, Secret, generate


def test_a_secret_is_long_random_and_known_by_what_is_stored_of_it() -> None:
    secrets = [generate() for _ in range(100)]
    assert len({secret.text for secret in secrets}) == 100
    for secret in secrets:
        assert re.fullmatch(r"gw-[\w-]{43}", secret.text)
        assert secret.text.startswith(secret.prefix)
        assert len(secret.prefix) == 10
        assert ID.fullmatch(secret.id)


def test_the_ledger_shows_the_same_id_as_for_a_key_of_the_configuration() -> None:
    secret = generate()
    assert secret.id == key_id(secret.text)
    assert secret.sha256.startswith(secret.id.removeprefix("key-"))


def test_a_secret_is_not_shown_by_accident() -> None:
    assert "hush" not in repr(Secret("gw-hush"))
