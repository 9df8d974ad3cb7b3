"""Where a name leads: explicit `provider/model`, then alias, then pattern. Pure; knows no wire and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError

from aigateway_router.patterns import FALLBACK, GROQ_MODELS, PATTERN_PROVIDERS, provider_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

SANDBOX: Final = "sandbox"
SANDBOX_MODEL: Final = "sandbox/echo"

_COMPARED: Final = 500
"""Names that an unknown one is compared with at most, so that a wrong name stays cheap."""
_COMPARED_LENGTH: Final = 100
_SHOWN_LENGTH: Final = 200
_NONE: Final[Mapping[str, Sequence[str]]] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """A provider and the name it is sent."""

    provider: str
    model: str


class Routes:
    """The table of names.

    Args:
        enabled: The providers that can be called.
        disabled: Known providers that cannot, each with the hint that enables it.
        aliases: Alias to `provider/model` or to another alias.
        groq_models: Names that belong to groq beside those of its documentation.
        pools: Names that stand for several providers; they lead like a provider's.
        fallbacks: What stands in for a name, in order.

    Raises ValueError that names every alias and stand-in that leads nowhere.
    """

    def __init__(
        self,
        *,
        enabled: Collection[str],
        disabled: Mapping[str, str],
        aliases: Mapping[str, str],
        groq_models: Collection[str] = (),
        pools: Collection[str] = (),
        fallbacks: Mapping[str, Sequence[str]] = _NONE,
    ) -> None:
        self._enabled = frozenset({*enabled, *pools})
        self._disabled = {name: hint for name, hint in disabled.items() if name not in self._enabled}
        self._known = self._enabled | self._disabled.keys() | PATTERN_PROVIDERS
        self._groq = GROQ_MODELS | frozenset(groq_models)
        self.aliases: Mapping[str, Target] = self._resolved(aliases)
        """Every alias with where it leads in the end."""
        self._fallbacks = self._stand_ins(fallbacks)

    def resolve(self, name: str) -> Target | None:
        """Where `name` leads; None when no enabled provider can have it.

        Raises:
            GatewayError: PROVIDER_DISABLED, when it leads to a known provider that is not enabled.
        """
        target = self._explicit(name) or self.aliases.get(name) or self._by_pattern(name)
        if target is None or target.provider in self._enabled:
            return target
        raise self.disabled_error(target.provider)

    def steps(self, name: str, target: Target) -> tuple[Target, ...]:
        """`target`, to which `name` leads, and what stands in for it."""
        if not self._fallbacks:
            return (target,)
        others = self._fallbacks.get(name) or self._fallbacks.get(f"{target.provider}/{target.model}") or ()
        return (target, *(other for other in others if other != target))

    def is_known(self, provider: str) -> bool:
        """Whether `provider` is the name of a provider at all."""
        return provider in self._known

    def not_found(self, name: str, known: Iterable[str]) -> GatewayError:
        """The error for a name that leads nowhere; names the nearest among the aliases and `known` model ids."""
        near = _nearest(name, [*self.aliases, *known])
        if near:
            advice = f"did you mean {', '.join(f'`{other}`' for other in near)}?"
        elif self._enabled <= {SANDBOX}:
            advice = f"no provider is enabled; try `{SANDBOX_MODEL}`, or set a provider's key"
        else:
            advice = "write `provider/model`, with one of: " + ", ".join(f"`{one}`" for one in sorted(self._enabled))
        return GatewayError(
            "MODEL_NOT_FOUND",
            f"no enabled provider has the model `{name[:_SHOWN_LENGTH]}`; {advice}",
            details={"param": "model"},
        )

    def disabled_error(self, provider: str) -> GatewayError:
        """The error for a known provider that is not enabled; says how to enable it."""
        hint = self._disabled.get(provider) or "configure it"
        message = f"the provider `{provider}` is not enabled; {hint}"
        if self._enabled == {SANDBOX}:
            message += f" (or try `{SANDBOX_MODEL}`, which needs no key)"
        return GatewayError("PROVIDER_DISABLED", message, details={"param": "model", "provider": provider})

    def _explicit(self, name: str) -> Target | None:
        provider, slash, model = name.partition("/")
        if not (slash and model and provider in self._known):
            return None
        # Groq has models whose own names begin with a provider's: `groq/compound`, `openai/gpt-oss-120b`.
        if name in self._groq and (provider == "groq" or (provider not in self._enabled and "groq" in self._enabled)):
            return Target("groq", name)
        return Target(provider, model)

    def _by_pattern(self, name: str) -> Target | None:
        if not name or name.endswith("/"):
            return None
        provider = "groq" if name in self._groq else provider_of(name)
        if provider == FALLBACK and provider not in self._enabled:
            return None
        return Target(provider, name)

    def _stand_ins(self, fallbacks: Mapping[str, Sequence[str]]) -> dict[str, tuple[Target, ...]]:
        """Where each name's stand-ins lead; those of providers that are not enabled are left out."""
        found: dict[str, tuple[Target, ...]] = {}
        problems: list[str] = []
        for name, steps in fallbacks.items():
            targets = [self._explicit(step) or self.aliases.get(step) or self._by_pattern(step) for step in steps]
            problems += [
                f"`{step}`, which stands in for `{name}`, leads to no provider"
                for step, target in zip(steps, targets, strict=True)
                if target is None
            ]
            found[name] = tuple(target for target in targets if target and target.provider in self._enabled)
        if problems:
            raise ValueError("; ".join(problems))
        return found

    def _resolved(self, aliases: Mapping[str, str]) -> dict[str, Target]:
        targets: dict[str, Target] = {}
        problems: list[str] = []
        for alias in aliases:
            try:
                targets[alias] = self._follow(alias, aliases)
            except ValueError as problem:
                problems.append(str(problem))
        if problems:
            raise ValueError("; ".join(problems))
        return targets

    def _follow(self, alias: str, aliases: Mapping[str, str]) -> Target:
        if not alias or self._explicit(alias):
            raise ValueError(f"alias `{alias}` can never be used: a name of that form is a provider's own model")
        seen = [alias]
        while (name := aliases[seen[-1]]) in aliases:
            if name in seen:
                raise ValueError(f"alias `{alias}` goes in a circle: {' -> '.join([*seen, name])}")
            seen.append(name)
        if target := self._explicit(name):
            return target
        raise ValueError(f"alias `{alias}` leads to `{name}`, which is neither `provider/model` nor another alias")


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of `known` that look like `name`, compared with and without the provider's name in front."""
    forms: dict[str, str] = {}
    for full, _ in zip(known, range(_COMPARED), strict=False):
        forms.setdefault(full[:_COMPARED_LENGTH], full)
        forms.setdefault(full.partition("/")[2][:_COMPARED_LENGTH] or full, full)
    matches = get_close_matches(name[:_COMPARED_LENGTH], forms, n=6, cutoff=0.6)
    return list(dict.fromkeys(forms[match] for match in matches))[:3]
