"""The files that settings name instead of a value (`NAME_FILE`, `api_key_file`), and what they held when last read.

A key that has been read stays in force while its file is empty, away or in the middle of being written; that is logged,
and never what a file holds.
"""

from __future__ import annotations

from pathlib import Path

from aigateway_common import logs

_log = logs.get("launcher")


class HeldFiles:
    """Reads such files again and again, for as long as a process lives."""

    def __init__(self) -> None:
        self._asked: set[Path] = set()
        self._held: dict[Path, str] = {}
        self._complaints: dict[Path, str] = {}

    @property
    def paths(self) -> frozenset[Path]:
        """Those that were asked for."""
        return frozenset(self._asked)

    def read(self, name: str) -> str:
        """The text in the file `name`, without the space around it; what it held before, where there is none now.

        Raises OSError when it cannot be read, and never could.
        """
        path = Path(name).absolute()
        self._asked.add(path)
        try:
            text, complaint = _text(path), "it is empty"
        except OSError as error:
            if path not in self._held:
                raise
            text, complaint = "", error.strerror or type(error).__name__
        if text or not self._held.get(path):
            self._held[path] = text
            self._complaints.pop(path, None)
            return text
        if self._complaints.get(path) != complaint:
            self._complaints[path] = complaint
            _log.error("key file not taken: the key in force stays", file=str(path), error=complaint)
        return self._held[path]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise OSError(None, "it is not text") from error
