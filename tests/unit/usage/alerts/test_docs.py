"""What `docs/alerts.md` shows is what is done."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from aigateway_launcher.config_policies import AlertsSection
from aigateway_usage.alerts import payload, signature
from aigateway_usage.alerts.signs import KINDS
from aigateway_usage.settings import AlertSettings
from support.alerts import SECRET
from support.attempts import NOON

TEXT = (Path(__file__).parents[4] / "docs" / "alerts.md").read_text()
SAMPLE = {
    "id": "a" * 32,
    "kind": "provider_down",
    "subject": "acme",
    "message": "every attempt failed",
    "opened_at_us": NOON,
    "resolved_at_us": None,
}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found[1]


def verified(secret: str, headers: dict[str, str], body: bytes) -> Any:
    names: dict[str, Any] = {}
    exec(compile(block("python"), "docs/alerts.md", "exec"), names)
    return names["verified"](secret, headers, body)


@pytest.mark.parametrize("secret", [SECRET, "any other text of 16 bytes or more"])
def test_the_eight_lines_verify_what_is_sent(secret: str) -> None:
    now = time.time_ns() // 1000
    body = payload.sent(payload.body(SAMPLE), now)
    headers = signature.headers(signature.key(secret), "m" * 32, now // 1_000_000, body)
    assert verified(secret, headers, body) == json.loads(body)
    assert verified(secret, headers, body + b" ") is None
    assert verified(secret, headers | {"webhook-id": "n" * 32}, body) is None
    assert verified("whsec_" + base64.b64encode(bytes(32)).decode(), headers, body) is None
    old = signature.headers(signature.key(secret), "m" * 32, now // 1_000_000 - 301, body)
    assert verified(secret, old, body) is None


def test_the_payload_has_the_fields_that_are_shown() -> None:
    shown = json.loads(block("json"))
    assert list(shown) == list(json.loads(payload.sent(payload.body(SAMPLE), NOON)))


def test_the_settings_are_those_that_are_shown_and_every_kind_is_listed() -> None:
    assert AlertsSection.model_validate(yaml.safe_load(block("yaml"))["alerts"]).provider_down_seconds == 30
    for kind in KINDS:
        assert f"| `{kind}` |" in TEXT


def test_the_file_and_the_service_have_the_same_defaults() -> None:
    given = AlertsSection()
    assert AlertSettings() == AlertSettings(
        given.consecutive_errors, given.latency_factor, given.latency_min_calls, given.provider_down_seconds
    )
