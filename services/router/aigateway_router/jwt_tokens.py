"""Tokens of an identity provider: whether one is good, and which project and models it speaks for.

Not for the keys that they are signed with (see `jwks`).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
from aigateway_common.errors import GatewayError

from aigateway_router.allowed import ANY_MODEL, ModelPatterns
from aigateway_router.attempts import DEFAULT_PROJECT
from aigateway_router.authn import digest
from aigateway_router.jwks import Jwks
from aigateway_router.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_router.settings import JwtSettings

LEEWAY: Final = 5
"""Seconds that clocks may differ."""
MAX_LENGTH: Final = 16 * 1024
"""Characters of a token."""
_KEPT: Final = 10_000
_MAX_MODELS: Final = 1000
_PROJECT: Final = re.compile(r"[a-z0-9-]{1,63}")

# A word for each way in which a token may be bad; the first that fits.
_WORDS: Final = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not valid yet"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAudienceError, "audience"),
    (jwt.MissingRequiredClaimError, "a claim is missing"),
    (jwt.InvalidAlgorithmError, "algorithm"),
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidKeyError, "key"),
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says."""

    key_id: str
    """`jwt-` and 8 hexadecimal digits of the digest of `sub`."""
    project: str
    models: ModelPatterns
    expires: float
    """Seconds since the Unix epoch; the leeway included."""


class JwtTokens:
    """Checks tokens; a good one is checked once, for as long as it lasts and its key is known.

    Args:
        settings: What a good token is.
        grace: Seconds that the keys work on while they cannot be had anew.
    """

    def __init__(self, settings: JwtSettings, grace: float) -> None:
        self._settings = settings
        self._jwks = Jwks(settings, grace)
        self._generation = 0
        self._good: Lru[bytes, Claims] = Lru(_KEPT)

    async def claims(self, token: str) -> Claims:
        """What `token` says.

        Raises:
            GatewayError: UNAUTHENTICATED that says in a word what is wrong with it, or UNAVAILABLE when there are no
                keys to check it with.
        """
        if len(token) > MAX_LENGTH:
            raise _bad("too long")
        await self._jwks.refresh()
        self._forget_old()
        known = digest(token)
        claims = self._good.get(known)
        if claims is None:
            claims = await self._check(token)
            self._forget_old()
            self._good.put(known, claims)
        if claims.expires <= time.time():
            raise _bad("expired")
        return claims

    async def stop(self) -> None:
        """Ask for keys no longer."""
        await self._jwks.stop()

    def _forget_old(self) -> None:
        if self._generation != self._jwks.generation:
            self._generation = self._jwks.generation
            self._good.clear()

    async def _check(self, token: str) -> Claims:
        settings = self._settings
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._jwks.find(kid)
            if key is None:
                raise _bad("unknown key")
            algorithms = [name for name in settings.algorithms if name in key.algorithms]
            if not algorithms:
                raise _bad("algorithm")
            payload = jwt.decode(
                token,
                key.key,
                algorithms=algorithms,
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"], "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _bad(next((word for kind, word in _WORDS if isinstance(error, kind)), "malformed")) from None
        return self._read(payload)

    def _read(self, payload: Mapping[str, Any]) -> Claims:
        subject = payload["sub"]
        if not isinstance(subject, str) or not subject:
            raise _bad("subject")
        project = payload.get(self._settings.project_claim, DEFAULT_PROJECT)
        if not isinstance(project, str) or not _PROJECT.fullmatch(project):
            raise _bad("project")
        return Claims(
            key_id=f"jwt-{digest(subject).hex()[:8]}",
            project=project,
            models=self._models(payload),
            expires=float(payload["exp"]) + LEEWAY,
        )

    def _models(self, payload: Mapping[str, Any]) -> ModelPatterns:
        """The models of the claim, a list or words; a token without the claim may use none."""
        if self._settings.models_claim is None:
            return ANY_MODEL
        listed = payload.get(self._settings.models_claim, [])
        names = listed.split() if isinstance(listed, str) else listed
        if not isinstance(names, list) or len(names) > _MAX_MODELS or not all(isinstance(one, str) for one in names):
            raise _bad("models")
        return ModelPatterns(names, nothing=True)


def _bad(why: str) -> GatewayError:
    return GatewayError("UNAUTHENTICATED", f"the token is refused: {why}")
