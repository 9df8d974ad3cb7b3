"""Which models a caller may use, by patterns. Pure."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from aigateway.v1 import gateway_service_pb2
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aigateway_router.callers import Caller
    from aigateway_router.routes import Target

_SHOWN: Final = 10
"""Patterns that an error lists."""
_SHOWN_LENGTH: Final = 200


class ModelPatterns:
    """Names of models; `*` stands for any text and `?` for any one character. None at all allow everything."""

    __slots__ = ("_match", "patterns")

    def __init__(self, patterns: Iterable[str] = (), *, nothing: bool = False) -> None:
        self.patterns = tuple(patterns)
        self._match = _compiled(self.patterns) if self.patterns or nothing else None

    @property
    def everything(self) -> bool:
        """Whether there is nothing that they do not allow."""
        return self._match is None

    def allow(self, *names: str) -> bool:
        """Whether one of `names`, which all stand for the same model, is allowed."""
        return self._match is None or any(self._match.fullmatch(name) for name in names)

    def words(self) -> str:
        """The patterns for people."""
        shown = ", ".join(f"`{pattern[:_SHOWN_LENGTH]}`" for pattern in self.patterns[:_SHOWN])
        return f"{shown} and {len(self.patterns) - _SHOWN} more" if len(self.patterns) > _SHOWN else shown


ANY_MODEL: Final = ModelPatterns()


def check(caller: Caller, name: str, target: Target) -> None:
    """Check that `caller` may use what they call `name` and what leads to `target`.

    Raises:
        GatewayError: PERMISSION_DENIED, which says what is allowed.
    """
    for who, models in (("this key", caller.key_models), (f"the project `{caller.project}`", caller.project_models)):
        if not models.allow(name, f"{target.provider}/{target.model}"):
            allowed = models.words() or "no model at all"
            raise GatewayError(
                "PERMISSION_DENIED",
                f"{who} may not use the model `{name[:_SHOWN_LENGTH]}`; it may use {allowed}",
                details={"param": "model"},
            )


def shown(caller: Caller, listed: gateway_service_pb2.ListModelsResponse) -> gateway_service_pb2.ListModelsResponse:
    """Of the models `listed`, those that `caller` may use."""
    if caller.key_models.everything and caller.project_models.everything:
        return listed
    models = [one for one in listed.models if _allows(caller, one.id, f"{one.provider}/{one.upstream_model}")]
    return gateway_service_pb2.ListModelsResponse(models=models, unavailable=listed.unavailable)


def names(caller: Caller, ids: Iterable[str]) -> list[str]:
    """Of the `ids` of models, those that `caller` may use."""
    return [one for one in ids if _allows(caller, one)]


def _allows(caller: Caller, *names: str) -> bool:
    return caller.key_models.allow(*names) and caller.project_models.allow(*names)


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # `fnmatch` makes expressions that never go back over what a star took, whatever name a caller thinks of.
    parts = [translate(pattern.replace("[", "[[]")) for pattern in patterns]
    return re.compile("|".join(parts) or r"(?!)")
