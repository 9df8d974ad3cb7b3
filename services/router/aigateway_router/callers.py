"""Who calls, and what they may use: keys of the configuration, issued keys, tokens of an identity provider.

What issued keys are comes from `accounts`, what tokens say from `jwt_tokens`. Not for what a caller has used (see
`policy.limits`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError

from aigateway_router.allowed import ANY_MODEL, ModelPatterns
from aigateway_router.attempts import DEFAULT_PROJECT
from aigateway_router.authn import KeyRing, digest, looks_like_token, presented
from aigateway_router.settings import CallLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aigateway.v1 import account_pb2, account_service_pb2

    from aigateway_router.accounts import Accounts, Defaults
    from aigateway_router.jwt_tokens import Claims, JwtTokens
    from aigateway_router.settings import RouterSettings

_NO_LIMITS: Final = CallLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call."""

    key_id: str = ""
    """What stands for the key; empty when the gateway is open."""
    project: str = DEFAULT_PROJECT
    """What the call is counted under."""
    key_limits: CallLimits = _NO_LIMITS
    """Of the key alone."""
    project_limits: CallLimits = _NO_LIMITS
    """Of all keys of the project together."""
    key_models: ModelPatterns = field(default=ANY_MODEL, compare=False)
    """What the key may use."""
    project_models: ModelPatterns = field(default=ANY_MODEL, compare=False)
    """What the project may use; a model must be allowed by both."""
    default_model: str = ""
    """What the model `default` means; empty: nothing."""
    max_output_tokens: int | None = None
    """The most tokens of an answer, where the call does not say."""
    budgeted: bool = False
    """Money must be reserved before each attempt."""
    expires: float | None = None
    """When the key stops to work by itself, in seconds since the Unix epoch; None: never."""
    issued: bool = False
    """The key can be revoked while calls of it are under way."""
    limited: tuple[tuple[str, CallLimits], ...] = field(init=False, compare=False)
    """What has limits, and which: `key:ID`, `project:ID`."""

    def __post_init__(self) -> None:
        """Find what has limits once for all calls."""
        subjects = ((f"key:{self.key_id or '-'}", self.key_limits), (f"project:{self.project}", self.project_limits))
        object.__setattr__(self, "limited", tuple(each for each in subjects if each[1].is_set))

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit on tokens."""
        return not (self.key_limits.tokens_per_minute is self.project_limits.tokens_per_minute is None)


ANYBODY: Final = Caller()


@dataclass(frozen=True, slots=True)
class Issued:
    """A key of the usage service, whether it still works or not."""

    caller: Caller
    revoked: float | None
    """When it was revoked, or will have been; seconds since the Unix epoch."""
    project_disabled: bool

    def check(self, now: float) -> None:
        """Check that the key works at `now`. Raises GatewayError UNAUTHENTICATED that says why not."""
        if self.revoked is not None and now >= self.revoked:
            raise revoked()
        if self.caller.expires is not None and now >= self.caller.expires:
            raise GatewayError("UNAUTHENTICATED", "the key expired; ask for a new one")
        if self.project_disabled:
            raise disabled(self.caller.project)


class Callers:
    """Knows callers by the keys that they send.

    Raises ValueError for a key of the configuration that makes no sense.
    """

    def __init__(self, settings: RouterSettings, accounts: Accounts, tokens: JwtTokens | None) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._guarded = bool(settings.admin_keys or settings.jwt)
        self._key_limits = settings.key_limits
        self.reload(settings.api_keys)

    def reload(self, keys: Iterable[str], *, guarded: bool = False) -> None:
        """Go by these keys of the configuration from now on. Raises ValueError as the constructor does.

        `guarded` says that there are operators. What was guarded once, by them or by keys, stays so until the next
        start: a file that is read while it is half written opens nothing.
        """
        self._keys = KeyRing(keys)
        self._guarded = self._guarded or guarded or bool(self._keys)
        self._defaults: Defaults | None = None
        self._own: dict[str, Caller] = {}

    async def identify(self, metadata: Mapping[str, str]) -> Caller:
        """The caller; waits for nobody when the key is one of the configuration, or was seen lately.

        Raises:
            GatewayError: UNAUTHENTICATED that says why, or UNAVAILABLE when nobody can say whose key it is.
        """
        keys = presented(metadata)
        if self._keys:
            for key in keys:
                if (found := self._keys.find(digest(key))) is not None:
                    return self._default(found)
        elif not self._guarded and not await self._accounts.has_keys():
            return self._default("")
        if not keys:
            raise GatewayError(
                "UNAUTHENTICATED",
                "no gateway key given; send it as `authorization: Bearer KEY`, `x-api-key` or `api-key`",
            )
        return await self._search(keys)

    async def _search(self, keys: list[str]) -> Caller:
        """The caller of the first key that works; the error of the first that nearly does, when none works."""
        refusal: GatewayError | None = None
        for key in keys:
            try:
                caller = await self._caller(key)
            except GatewayError as error:
                refusal = refusal or error
                continue
            if caller is not None:
                return caller
        raise refusal or GatewayError(
            "UNAUTHENTICATED", "the gateway key is wrong; use one of the keys that this gateway knows"
        )

    async def _caller(self, key: str) -> Caller | None:
        if self._tokens is not None and looks_like_token(key):
            return self._bearer(await self._tokens.claims(key))
        issued = await self._accounts.resolve(digest(key))
        if issued is None:
            return None
        issued.check(time.time())
        return issued.caller

    def _default(self, key_id: str) -> Caller:
        """The caller of a key of the configuration. Raises GatewayError when the project `default` is disabled."""
        defaults = self._accounts.defaults
        if defaults is not self._defaults:
            self._defaults, self._own = defaults, {}
        if defaults.project is not None and defaults.project.disabled:
            raise disabled(defaults.project.id)
        caller = self._own.get(key_id)
        if caller is None:
            caller = self._own[key_id] = replace(
                in_project(defaults.project),
                key_id=key_id,
                key_limits=self._key_limits,
                budgeted=defaults.budgeted,
            )
        return caller

    def _bearer(self, claims: Claims) -> Caller:
        """The caller that a token speaks for."""
        project = self._accounts.projects.get(claims.project)
        if project is not None and project.disabled:
            raise disabled(claims.project)
        return replace(
            in_project(project),
            key_id=claims.key_id,
            project=claims.project,
            key_limits=self._key_limits,
            key_models=claims.models,
            budgeted=self._accounts.defaults.budgeted or claims.project in self._accounts.budgeted_projects,
            expires=claims.expires,
        )


def in_project(project: account_pb2.Project | None) -> Caller:
    """A caller with what their project says, and nothing of their key."""
    if project is None:
        return ANYBODY
    return Caller(
        project=project.id,
        project_limits=limits_of(project.limits),
        project_models=ModelPatterns(project.allowed_models),
        default_model=project.defaults.model,
        max_output_tokens=_most(project.defaults),
    )


def of_key(found: account_service_pb2.ResolveKeyResponse, limits: CallLimits) -> Issued:
    """An issued key; `limits` hold where it has none of its own."""
    key, project = found.key, found.project
    caller = replace(
        in_project(project),
        key_id=key.id,
        project=key.project,
        key_limits=limits_of(key.limits) if key.HasField("limits") else limits,
        key_models=ModelPatterns(key.allowed_models),
        budgeted=found.budgeted,
        expires=key.expires_at_us / 1e6 if key.HasField("expires_at_us") else None,
        issued=True,
    )
    own_most = _most(key.defaults)
    caller = replace(
        caller,
        default_model=key.defaults.model or caller.default_model,
        max_output_tokens=caller.max_output_tokens if own_most is None else own_most,
    )
    revoked = key.revoked_at_us / 1e6 if key.HasField("revoked_at_us") else None
    return Issued(caller, revoked, project_disabled=project.disabled)


def limits_of(limits: account_pb2.Limits) -> CallLimits:
    """The limits of a key or project."""
    return CallLimits(
        requests_per_minute=limits.requests_per_minute if limits.HasField("requests_per_minute") else None,
        tokens_per_minute=limits.tokens_per_minute if limits.HasField("tokens_per_minute") else None,
        concurrent_calls=limits.concurrent_calls if limits.HasField("concurrent_calls") else None,
    )


def revoked() -> GatewayError:
    """The error for a key that was revoked, before the call or while it was under way."""
    return GatewayError("UNAUTHENTICATED", "the key was revoked")


def disabled(project: str) -> GatewayError:
    """The error for a key whose project is disabled."""
    return GatewayError("UNAUTHENTICATED", f"the project `{project}` of this key is disabled")


def _most(defaults: account_pb2.CallDefaults) -> int | None:
    return defaults.max_output_tokens if defaults.HasField("max_output_tokens") else None
