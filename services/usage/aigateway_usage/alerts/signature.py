"""Signing webhooks as Standard Webhooks 1.0.0 says, symmetric scheme `v1`; pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"
"""Before a secret in base64, as the standard writes it."""


def key(secret: str) -> bytes:
    """The bytes of a secret: what stands after `whsec_` in base64, or the text itself when it does not begin so.

    Raises:
        ValueError: What follows `whsec_` is not base64.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    text = secret.removeprefix(PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows `{PREFIX}` is not base64") from error


def headers(secret: bytes, message: str, seconds: int, body: bytes) -> dict[str, str]:
    """The three headers of a message.

    Args:
        secret: The key.
        message: The id, the same however often the message is sent; without a full stop.
        seconds: When it is sent; seconds since the Unix epoch.
        body: What is sent, byte by byte.
    """
    digest = hmac.digest(secret, f"{message}.{seconds}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
