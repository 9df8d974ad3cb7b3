"""What all unit tests have in common."""

from __future__ import annotations

import pytest
from aigateway_common import serving


@pytest.fixture(autouse=True)
def _no_lingering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of tests do not wait half a second each for channels to leave that are closed, but still being closed."""
    if request.module.__name__.rpartition(".")[2] != "test_serving":
        monkeypatch.setattr(serving, "LINGER", 0.02)
