"""What `up` says of keys, and the call it offers to paste."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_launcher import banner
from aigateway_launcher.groups import Addresses
from aigateway_launcher.plan import Overrides, Plan, make


def plan(folder: Path, **environment: str) -> Plan:
    return make(Overrides(data_dir=folder), environment, ollama_found=lambda: False)


@pytest.mark.parametrize(
    ("environment", "words", "sends_key"),
    [
        ({}, "no key is asked for until one is made (loopback only)", False),
        ({"GATEWAY_API_KEY": "a-gateway-key-of-some-length"}, "callers must send a key", True),
        (
            {"ADMIN_API_KEY": "an-operators-key-of-some-length"},
            "callers must send a key; make one: aigateway keys create --project default",
            True,
        ),
    ],
)
def test_it_says_whether_a_key_is_needed_and_how_to_get_one(
    tmp_path: Path, environment: dict[str, str], words: str, sends_key: bool
) -> None:
    made = plan(tmp_path, **environment)
    assert banner.keys(made) == words
    assert ("authorization" in banner.curl(made, Addresses(http="127.0.0.1:8080"))) == sends_key
