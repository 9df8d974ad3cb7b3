"""From `usage.nats_url` or NATS_URL to where usage events wait, with every mistake found on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_common.event_stream import EventStream, address, has_secret
from aigateway_common.settings import Problem

if TYPE_CHECKING:
    from aigateway_common.settings import Document

    from aigateway_launcher.config import UsageSection
    from aigateway_launcher.environment import Environment


class EventsMaker:
    """Resolves the section; `problems` fills while it works."""

    def __init__(self, section: UsageSection, document: Document, environment: Environment) -> None:
        self.problems: list[Problem] = []
        self._section = section
        self._document = document
        self._env = environment

    def stream(self) -> EventStream | None:
        """The stream; None when there is none, or no ledger at all."""
        own = ("usage", "nats_url")
        url = self._section.nats_url or self._env.text("NATS_URL")
        if not url or not self._section.enabled:
            return None
        where = self._document.where(own) if self._section.nats_url else "NATS_URL"
        try:
            address(url)
        except ValueError as error:
            self.problems.append(Problem(where, str(error)))
        if self._section.nats_url and has_secret(url) and own not in self._document.variables:
            self.problems.append(Problem(where, "a password may not stand in the file; write `${NATS_URL}`"))
        return EventStream(url, self._section.nats_replicas)
