"""Which services a process holds, how they are named, and where they listen. Starts none: `topology` does.

The parent of several processes goes by this alone, so it imports nothing that speaks gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aigateway_common.settings import ConfigurationError, Problem, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway_launcher.plan import Plan

SERVICES: Final = ("edge", "router", "usage")
PROVIDER: Final = "provider:"


@dataclass(frozen=True, slots=True)
class Group:
    """The services that one process holds."""

    edge: bool = False
    router: bool = False
    usage: bool = False
    providers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The services as `serve` takes them."""
        own = [name for name in SERVICES if getattr(self, name)]
        return (*own, *(PROVIDER + name for name in self.providers))


def everything(plan: Plan) -> Group:
    """All services in one process."""
    return Group(edge=True, router=True, usage=plan.usage_enabled, providers=tuple(plan.providers))


def parse_group(text: str, plan: Plan) -> Group:
    """The group named by `SERVICE[,SERVICE…]`.

    Raises:
        ConfigurationError: A name is no service, or a provider that is not enabled.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [*SERVICES, *(PROVIDER + name for name in plan.providers)]
    problems = []
    for name in names:
        if name in known:
            continue
        provider = name.removeprefix(PROVIDER)
        if name.startswith(PROVIDER) and provider in plan.disabled:
            problems.append(Problem("serve", f"`{name}` is not enabled: {plan.disabled[provider]}"))
        else:
            text = f"`{name}` is not a service{suggestion(name, known) or f'; there are {_listed(known)}'}"
            problems.append(Problem("serve", text))
    if problems or not names:
        raise ConfigurationError(problems or [Problem("serve", f"name a service: {_listed(known)}")])
    providers = tuple(name.removeprefix(PROVIDER) for name in names if name.startswith(PROVIDER))
    return Group("edge" in names, "router" in names, "usage" in names, providers)


def _listed(names: Sequence[str]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} and {last}"


@dataclass(slots=True)
class Addresses:
    """Where a process listens, once it does."""

    http: str | None = None
    grpc: dict[str, str] = field(default_factory=dict)
    """By service name."""
    metrics: dict[str, str] = field(default_factory=dict)
    """By the process's services, or the worker's name."""


def parts(group: Group) -> list[Group]:
    """One group per service: how `up --split` divides the work. Order: what others need comes first."""
    usage = [Group(usage=True)] if group.usage else []
    providers = [Group(providers=(name,)) for name in group.providers]
    return [*usage, *providers, Group(router=True), Group(edge=True)]
