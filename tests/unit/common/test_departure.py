"""Who is told that a client has gone: the one who listens, once, and also who comes too late."""

from __future__ import annotations

import pytest
from aigateway_common.departure import Departure


@pytest.fixture(name="told")
def _told() -> list[str]:
    return []


def departure(told: list[str]) -> Departure:
    return Departure(lambda: told.append("listening"))


def test_a_listener_is_told_once(told: list[str]) -> None:
    client = departure(told)
    client.listen(lambda: told.append("gone"))
    client.happened()
    client.happened()
    assert told == ["listening", "gone"]


def test_who_listens_too_late_is_told_at_once(told: list[str]) -> None:
    client = departure(told)
    client.happened()
    client.listen(lambda: told.append("gone"))
    assert told == ["gone"]


def test_who_no_longer_listens_is_not_told(told: list[str]) -> None:
    client = departure(told)
    client.listen(lambda: told.append("gone"))
    client.ignore()
    client.happened()
    assert told == ["listening"]
