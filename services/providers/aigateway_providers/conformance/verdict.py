"""What becomes of a case: it passes, fails with what was wrong, or is skipped with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "skip"]


class Failed(Exception):  # noqa: N818 - a verdict, not an error
    """The adapter does not keep a promise; the message says which."""


class Skipped(Exception):  # noqa: N818 - a verdict, not an error
    """The case says nothing about this adapter; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    case: str
    """The case's name."""
    promise: str
    """What it checks, in a sentence."""
    outcome: Outcome
    detail: str
    """What was wrong, why it was skipped, or what was seen; may be empty."""
    seconds: float
    """How long it took."""


def require(condition: object, message: str) -> None:
    """Fail the case with `message` unless `condition` holds."""
    if not condition:
        raise Failed(message)
