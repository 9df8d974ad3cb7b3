"""The processes of `up --split`: one per service on loopback. What a cluster does, on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_launcher import children
from aigateway_launcher.groups import Group, everything, parts
from aigateway_launcher.supervisor import Child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway_launcher.plan import Plan


class Split:
    """One child per service; see `Layout`."""

    in_turn = False

    def __init__(self, plan: Plan, environment: Mapping[str, str]) -> None:
        self._plan = plan
        self._environment = environment
        groups = parts(everything(plan))
        self._ports: dict[str, int] = {}
        self._held: list[children.HeldPort] = []
        for group in groups:
            self._ports[group.names[0]] = self._port(group)
        self.stages: Sequence[Sequence[Child]] = [[self._child(number, group)] for number, group in enumerate(groups)]

    def ended(self, child: Child) -> None:
        """Nobody has to be told: it comes back on its old address."""

    def leave(self) -> None:
        """Nothing is shared."""

    def close(self) -> None:
        """Others may have the ports."""
        for held in self._held:
            held.close()

    def _port(self, group: Group) -> int:
        """The port of a service, chosen once: when it is started again, the others know the old one."""
        asked = self._plan.port if group.edge else self._plan.grpc_port if group.router else 0
        if asked:
            return asked
        held = children.hold_port((*self._ports.values(), self._plan.port, self._plan.grpc_port))
        self._held.append(held)
        return held.number

    def _child(self, number: int, group: Group) -> Child:
        name = group.names[0]
        port = ["--port" if group.edge else "--grpc-port", str(self._ports[name])]
        return Child(name, children.arguments(self._plan, group, number) + port, self._variables(group))

    def _variables(self, group: Group) -> dict[str, str]:
        """The environment of one service, with the addresses of the others."""
        result = children.environment(self._plan, group, self._environment)
        if group.router:
            targets = [f"{name}=127.0.0.1:{self._ports[f'provider:{name}']}" for name in self._plan.providers]
            result["AIGATEWAY_PROVIDER_TARGETS"] = ",".join(targets)
            if "usage" in self._ports:
                result["AIGATEWAY_USAGE_TARGET"] = f"127.0.0.1:{self._ports['usage']}"
        if group.edge:
            result["AIGATEWAY_ROUTER_TARGET"] = f"127.0.0.1:{self._ports['router']}"
        return result
