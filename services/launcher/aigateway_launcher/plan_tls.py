"""From `server.tls` and AIGATEWAY_TLS_… to where the certificates are, with every mistake found on the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from aigateway_common.settings import Problem
from aigateway_common.tls import Part, Tls, UnusableError, read

if TYPE_CHECKING:
    from aigateway_common.settings import Document

    from aigateway_launcher.config import TlsSection
    from aigateway_launcher.environment import Environment

VARIABLES: Final[dict[Part, str]] = {
    "certificate": "AIGATEWAY_TLS_CERT",
    "key": "AIGATEWAY_TLS_KEY",
    "ca": "AIGATEWAY_TLS_CA",
}
SERVER_NAME: Final = "AIGATEWAY_TLS_SERVER_NAME"
CALLERS: Final = "AIGATEWAY_TLS_CALLERS"


class TlsMaker:
    """Resolves them; `problems` fills while it works."""

    def __init__(self, section: TlsSection, document: Document, settings: Environment) -> None:
        self.problems: list[Problem] = []
        self._section = section
        self._document = document
        self._env = settings

    def tls(self) -> Tls | None:
        """Where the files are, which were looked at; None when there is to be no TLS, or there is a mistake."""
        paths = {part: path for part in get_args(Part) if (path := self._path(part))}
        name = self._section.server_name or self._env.text(SERVER_NAME)
        callers = self._callers()
        if not paths and name is None and not callers:
            return None
        missing = [part for part in VARIABLES if part not in paths]
        for part in missing:
            which = f"set it or `server.tls.{part}`, or none of them"
            text = f"is not set; TLS needs a certificate, its key and a CA: {which}"
            self.problems.append(Problem(VARIABLES[part], text))
        if missing:
            return None
        tls = Tls(**paths, server_name=name, callers=callers)
        try:
            read(tls)
        except UnusableError as error:
            self.problems.append(Problem(self._where(error.part), str(error)))
            return None
        return tls

    def _callers(self) -> tuple[str, ...]:
        given = self._section.callers or (self._env.text(CALLERS) or "").split(",")
        return tuple(name for each in given if (name := each.strip()))

    def _path(self, part: Part) -> Path | None:
        given = getattr(self._section, part) or self._env.text(VARIABLES[part])
        return Path(given).expanduser().absolute() if given else None

    def _where(self, part: Part) -> str:
        if getattr(self._section, part):
            return self._document.where(("server", "tls", part))
        return VARIABLES[part]
