"""What the outbox asks of whatever carries usage events towards the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import usage_service_pb2


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that will never be taken, however often it is sent."""

    attempt: usage_service_pb2.Attempt
    why: str


class Transport(Protocol):
    """A way to the ledger. Several outboxes may use one at the same time."""

    async def deliver(self, attempts: Sequence[usage_service_pb2.Attempt]) -> Sequence[Rejected]:
        """Hand `attempts` on; returns once all but those it names are kept for good: the outbox may forget them.

        Raises whatever happened when that is not known of every one of them; the outbox then sends all of them again,
        and who receives them knows each by its `event_id`.
        """

    async def close(self) -> None:
        """Deliver no more."""
