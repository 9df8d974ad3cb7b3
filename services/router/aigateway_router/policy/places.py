"""Places that calls under way hold, by name: how many there are at the same time. Not for limits a minute.

In memory, for a router that is alone; see `machine` for several on one machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Places(Protocol):
    """Gives out places. Nothing here waits."""

    shared: bool
    """Whether others give out places of the same names."""

    def enter(self, wanted: Sequence[tuple[str, int]]) -> str | None:
        """Take a place of each name, of which there may be so many, or none at all; the name that has none left."""

    def leave(self, names: Iterable[str]) -> None:
        """Give back a place of each name."""

    def tell(self, name: str, count: int) -> None:
        """Say how many of `name` are held here, whatever was held before."""

    def elsewhere(self, name: str) -> int:
        """How many of `name` others hold."""


class OwnPlaces:
    """The places of one router."""

    shared = False

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        """By name; those of which none is held are left out."""

    def enter(self, wanted: Sequence[tuple[str, int]]) -> str | None:
        """As in `Places`."""
        for name, most in wanted:
            if self.held.get(name, 0) >= most:
                return name
        for name, _ in wanted:
            self.held[name] = self.held.get(name, 0) + 1
        return None

    def leave(self, names: Iterable[str]) -> None:
        """As in `Places`."""
        for name in names:
            self.tell(name, self.held[name] - 1)

    def tell(self, name: str, count: int) -> None:
        """As in `Places`."""
        if count:
            self.held[name] = count
        else:
            self.held.pop(name, None)

    def elsewhere(self, _name: str) -> int:
        """Nobody else holds any."""
        return 0
