"""What the file says about alerts, and the mistakes that are told with their line."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_launcher.plan import Overrides, make
from aigateway_usage.settings import AlertSettings, Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def alerts(tmp_path: Path, text: str, secret: str = SECRET) -> AlertSettings:
    file = tmp_path / "aigateway.yaml"
    file.write_text(text)
    return make(Overrides(file), {"HOOK": secret}, ollama_found=lambda: False).usage.alerts


def problems(tmp_path: Path, text: str, secret: str = SECRET) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        alerts(tmp_path, text, secret)
    return [str(problem) for problem in caught.value.problems]


def webhook(url: str, secret: str = "${HOOK}", more: str = "") -> str:
    return f"alerts:\n  webhooks:\n    - url: '{url}'\n      secret: '{secret}'\n{more}"


def test_the_section_reaches_the_usage_service(tmp_path: Path) -> None:
    text = webhook("https://hooks.example.com/a", more="      allow_private: yes\n  provider_down_seconds: 5\n")
    assert alerts(tmp_path, text) == AlertSettings(
        provider_down=5, webhooks=(Webhook("https://hooks.example.com/a", SECRET, allow_private=True),)
    )
    assert alerts(tmp_path, "") == AlertSettings()


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    assert SECRET not in repr(alerts(tmp_path, webhook("https://hooks.example.com/a")))


def test_a_secret_may_not_stand_in_the_file(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, webhook("https://hooks.example.com/a", secret=SECRET))
    why = "a secret may not stand in the file; write `${ALERT_WEBHOOK_SECRET}`"
    assert problem == f"aigateway.yaml:4: `alerts.webhooks[0].secret`: {why}"


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("short", "16 or more varied bytes"),
        ("a" * 40, "16 or more varied bytes"),
        ("whsec_AAAA", "16 or more varied bytes"),
        ("whsec_not base64!", "not base64"),
    ],
)
def test_a_weak_secret_is_refused_with_the_way_to_make_one(tmp_path: Path, secret: str, why: str) -> None:
    (problem,) = problems(tmp_path, webhook("https://hooks.example.com/a"), secret)
    assert problem.startswith("aigateway.yaml:4: ")
    assert why in problem
    assert "make one with" in problem
    assert secret not in problem


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("="), "a plain text with 24 characters"])
def test_a_secret_is_base64_after_its_prefix_or_any_text(tmp_path: Path, secret: str) -> None:
    assert alerts(tmp_path, webhook("https://hooks.example.com/a"), secret).webhooks[0].secret == secret


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://hooks.example.com/a", "must begin with http:// or https://"),
        ("hooks.example.com/a", "must begin with http:// or https://"),
        ("https:///a", "must begin with http:// or https://"),
        ("http://[::1/", "is not a valid address"),
        ("http://hooks.example.com:99999/", "is not a valid address"),
        ("https://user:word@hooks.example.com/", "has a user or password"),
        ("http://127.0.0.1:1/", "`allow_private: true`"),
        ("http://[::ffff:10.0.0.1]/", "`allow_private: true`"),
        ("http://localhost/", "`allow_private: true`"),
        ("http://169.254.169.254/", "`allow_private: true`"),
    ],
)
def test_an_address_that_cannot_be_told_is_refused_unquoted(tmp_path: Path, url: str, why: str) -> None:
    (problem,) = problems(tmp_path, webhook(url))
    assert problem.startswith("aigateway.yaml:3: `alerts.webhooks[0].url`: ")
    assert why in problem
    assert url not in problem


def test_private_addresses_are_told_where_that_is_allowed_and_metadata_never(tmp_path: Path) -> None:
    private = "      allow_private: true\n"
    assert alerts(tmp_path, webhook("http://10.0.0.1/", more=private)).webhooks[0].allow_private
    (problem,) = problems(tmp_path, webhook("http://169.254.169.254/", more=private))
    assert problem.endswith("leads to an address that is not public")


def test_an_address_is_told_once(tmp_path: Path) -> None:
    twice = webhook(
        "https://hooks.example.com/a", more="    - {url: 'https://hooks.example.com/a', secret: '${HOOK}'}\n"
    )
    (problem,) = problems(tmp_path, twice)
    assert problem.startswith("aigateway.yaml:5: `alerts.webhooks[1].url`: is there twice")


def test_a_misspelled_or_missing_setting_is_told(tmp_path: Path) -> None:
    found = problems(tmp_path, "alerts:\n  webhooks:\n    - {url: 'https://a.example/', secrt: '${HOOK}'}\n")
    assert any("did you mean `secret`" in problem for problem in found)
    assert any("`alerts.webhooks.0.secret` is missing" in problem for problem in found)
