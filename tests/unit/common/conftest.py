"""What tests of what all services share have in common."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _complaints_are_told_anew() -> None:
    """OpenTelemetry's SDK tells the same complaint but once in twenty seconds: those of other tests do not count."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("opentelemetry") and isinstance(logger, logging.Logger):
            for each in logger.filters:
                vars(each).pop("last_log", None)
