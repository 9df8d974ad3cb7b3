"""Identifiers."""

from __future__ import annotations

import time
import uuid

from aigateway_common.ids import made_at_us, new_id


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1000
    for text in ids:
        parsed = uuid.UUID(hex=text)
        assert (parsed.hex, parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
    times = [text[:16] for text in ids]
    assert times == sorted(times)


def test_an_id_tells_when_it_was_made() -> None:
    made = new_id(1_784_894_400_123_456_789)
    assert made_at_us(made) == 1_784_894_400_123_000
    assert made < new_id(1_784_894_400_123_458_000) < new_id(1_784_894_400_124_000_000)
