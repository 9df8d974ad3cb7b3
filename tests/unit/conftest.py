"""What all unit tests have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from aigateway_common import logs, serving


@pytest.fixture(autouse=True)
def _no_lingering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of tests do not wait two seconds each for channels to leave that are closed, but still being closed."""
    if request.module.__name__.rpartition(".")[2] != "test_serving":
        monkeypatch.setattr(serving, "LINGER", 0.02)


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """For tests that set up logging, which is the whole process's: afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logs.forward(None)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
