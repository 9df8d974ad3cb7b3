"""Signatures, as Standard Webhooks has them."""

from __future__ import annotations

import pytest
from aigateway_usage.alerts import signature

# The example of the standard's own libraries (libraries/javascript/src/webhook.test.ts).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_standards_own_example_comes_out() -> None:
    found = signature.headers(
        signature.key(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_without_the_prefix_is_its_own_text() -> None:
    assert signature.key("plain text ä") == "plain text ä".encode()
    assert signature.key("whsec_AAEC") == signature.key("whsec_AAEC") == b"\0\1\2"
    assert signature.key("whsec_AAECAw") == signature.key("whsec_AAECAw==") == b"\0\1\2\3"
    with pytest.raises(ValueError, match="not base64"):
        signature.key("whsec_!")
