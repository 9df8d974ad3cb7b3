"""The outbox's files: whatever a crash leaves, what was appended is read again, and nothing else is."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aigateway_router import records
from aigateway_router.store import OutboxLockedError, Store
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = 1024 * 1024


@contextmanager
def opened(folder: Path, segment_bytes: int = BIG, *, fsync: bool = False) -> Iterator[Store]:
    store = Store(folder, segment_bytes=segment_bytes, fsync=fsync)
    try:
        yield store
    finally:
        store.close()


def drain(store: Store, limit: int = 3) -> list[bytes]:
    """Everything that is left, acknowledged batch by batch."""
    payloads: list[bytes] = []
    while True:
        batch = store.read(limit)
        payloads += batch.payloads
        store.acknowledge(batch)
        if not batch.payloads and not store.backlog_bytes:
            return payloads


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def fill(folder: Path, *payloads: bytes, segment_bytes: int = BIG) -> None:
    with opened(folder, segment_bytes) as store:
        for payload in payloads:
            store.append(payload)


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(10):
            store.append(b"%d" % number)
        assert drain(store) == [b"%d" % number for number in range(10)]
        assert store.backlog_bytes == 0
        store.append(b"more")
        assert drain(store) == [b"more"]


def test_what_is_not_acknowledged_is_read_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(b"one")
        assert store.read(9).payloads == [b"one"]
        assert store.read(9).payloads == [b"one"]
        assert store.backlog_bytes == len(records.encode(b"one"))


def test_a_restart_goes_on_where_acknowledgement_stood(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for payload in (b"one", b"two", b"three"):
            store.append(payload)
        store.acknowledge(store.read(1))
    with opened(tmp_path) as store:
        store.append(b"four")
        assert drain(store) == [b"two", b"three", b"four"]


def test_delivered_segments_are_deleted(tmp_path: Path) -> None:
    with opened(tmp_path, 40) as store:
        for number in range(20):
            store.append(b"%02d-------------" % number)
        assert len(segments(tmp_path)) == 10
        assert len(drain(store)) == 20
        assert len(segments(tmp_path)) == 1


def test_a_lost_or_damaged_cursor_repeats_and_never_skips(tmp_path: Path) -> None:
    for number, damage in enumerate((b"", b"x" * 24, b"short")):
        folder = tmp_path / str(number)
        fill(folder, b"one", b"two")
        with opened(folder) as store:
            store.acknowledge(store.read(1))
        (folder / "cursor").write_bytes(damage)
        with opened(folder) as store:
            assert drain(store) == [b"one", b"two"]


def test_a_segment_written_after_a_lost_one_is_not_mistaken_for_it(tmp_path: Path) -> None:
    fill(tmp_path, b"one", b"two", b"three")
    with opened(tmp_path) as store:
        drain(store)
    for path in segments(tmp_path):
        path.unlink()
    fill(tmp_path, b"new")
    with opened(tmp_path) as store:
        assert drain(store) == [b"new"]


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(OutboxLockedError, match="another process uses the outbox"):
        Store(tmp_path, segment_bytes=BIG)
    with opened(tmp_path):
        pass


def test_a_torn_last_record_is_dropped_at_every_byte(tmp_path: Path) -> None:
    fill(tmp_path / "whole", b"first", b"second-and-longer")
    (segment,) = segments(tmp_path / "whole")
    data = segment.read_bytes()
    first = len(records.encode(b"first"))
    for length in range(len(data) + 1):
        folder = tmp_path / f"cut-{length}"
        folder.mkdir()
        (folder / segment.name).write_bytes(data[:length])
        expected = [b"first"] * (length >= first) + [b"second-and-longer"] * (length == len(data))
        with opened(folder) as store:
            store.append(b"after the crash")
            assert drain(store) == [*expected, b"after the crash"]
        assert not list(folder.glob("damaged-*"))


def test_a_damaged_byte_costs_one_record_which_is_set_aside(tmp_path: Path) -> None:
    payloads = [b"first", b"second", b"third"]
    fill(tmp_path / "whole", *payloads)
    (segment,) = segments(tmp_path / "whole")
    data = segment.read_bytes()
    sizes = [len(records.encode(payload)) for payload in payloads]
    for position in range(len(data)):
        folder = tmp_path / f"bad-{position}"
        folder.mkdir()
        bad = bytearray(data)
        bad[position] ^= 0x40
        (folder / segment.name).write_bytes(bad)
        hit = 0 if position < sizes[0] else 1 if position < sum(sizes[:2]) else 2
        with opened(folder) as store:
            assert drain(store) == [payload for index, payload in enumerate(payloads) if index != hit]
        aside = [path.read_bytes() for path in folder.glob("damaged-*")]
        begin = sum(sizes[:hit])
        region = bytes(bad[begin : begin + sizes[hit]])
        # A length that now points past the end of the last record cannot be told from a torn one.
        assert aside == [region] or (hit == 2 and not aside)


def test_damage_larger_than_one_read_is_skipped_to_the_next_good_record(tmp_path: Path) -> None:
    fill(tmp_path, b"before", b"x" * (900 * 1024), b"after")
    (segment,) = segments(tmp_path)
    with segment.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    with opened(tmp_path) as store:
        assert drain(store) == [b"before", b"after"]
    assert len(list(tmp_path.glob("damaged-*"))) == 1


def test_an_event_larger_than_one_read_is_read_whole(tmp_path: Path) -> None:
    big = bytes(range(256)) * 4000
    with opened(tmp_path) as store:
        store.append(b"small")
        store.append(big)
        store.append(b"last")
        assert drain(store) == [b"small", big, b"last"]
        with pytest.raises(ValueError, match="too large"):
            store.append(b"x" * (records.MAX_PAYLOAD + 1))


def test_a_write_that_stops_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[: len(data) // 2])

    with opened(tmp_path) as store:
        store.append(b"one")
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            store.append(b"lost, and said so")
        monkeypatch.setattr(os, "write", real)
        store.append(b"two")
        assert drain(store) == [b"one", b"two"]


def test_a_segment_that_cannot_be_mended_is_left_and_another_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    with opened(tmp_path) as store:
        store.append(b"one")
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        monkeypatch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            store.append(b"lost, and said so")
        monkeypatch.undo()
        store.append(b"two")
    with opened(tmp_path) as store:
        assert drain(store) == [b"one", b"two"]


def test_forcing_to_disk_keeps_the_same_events(tmp_path: Path) -> None:
    with opened(tmp_path, 40, fsync=True) as store:
        for number in range(6):
            store.append(b"%d-----------" % number)
        assert len(drain(store)) == 6


class Crashes(RuleBasedStateMachine):
    """Appends, deliveries and crashes in any order, against a list of what was acknowledged to callers."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.lives = 0
        self.folder = self.root / "0"
        self.store = Store(self.folder, segment_bytes=100)
        self.kept: list[bytes] = []
        self.delivered: list[bytes] = []

    @override
    def teardown(self) -> None:
        self.store.close()
        delivered = self._reopened()
        assert set(delivered) | set(self.delivered) == set(self.kept)
        shutil.rmtree(self.root)

    def _reopened(self) -> list[bytes]:
        with opened(self.folder, 100) as store:
            return drain(store)

    @rule(size=st.integers(0, 60))
    def append(self, size: int) -> None:
        payload = b"%06d" % len(self.kept) + b"." * size
        self.store.append(payload)
        self.kept.append(payload)

    @rule(limit=st.integers(1, 4), acknowledged=st.booleans())
    def deliver(self, limit: int, acknowledged: bool) -> None:
        batch = self.store.read(limit)
        self.delivered += batch.payloads
        if acknowledged:
            self.store.acknowledge(batch)

    @rule(torn=st.binary(max_size=30) | st.integers(1, 20))
    @precondition(lambda self: self.lives < 6)
    def crash(self, torn: bytes | int) -> None:
        """The process ends here: another opens what is on disk, after a torn append."""
        self.lives += 1
        image = self.root / str(self.lives)
        shutil.copytree(self.folder, image)
        self.store.close()
        tail = torn if isinstance(torn, bytes) else records.encode(b"never acknowledged")[:torn]
        if paths := segments(image):
            with paths[-1].open("ab") as file:
                file.write(tail)
        self.folder = image
        self.store = Store(image, segment_bytes=100)

    @invariant()
    def nothing_is_made_up_and_the_order_holds(self) -> None:
        assert set(self.delivered) <= set(self.kept)

    @invariant()
    def nothing_kept_is_out_of_reach(self) -> None:
        image = self.root / "look"
        shutil.copytree(self.folder, image)
        with opened(image, 100) as store:
            left = drain(store)
        shutil.rmtree(image)
        assert left == self.kept[len(self.kept) - len(left) :]
        assert set(left) | set(self.delivered) == set(self.kept)


Crashes.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCrashes = Crashes.TestCase


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 4))
def test_records_read_back_as_written(payloads: list[bytes], limit: int) -> None:
    data, read = b"".join(map(records.encode, payloads)), []
    while data:
        scan = records.scan(data, limit, last=True)
        assert not scan.damaged
        read += scan.payloads
        data = data[scan.used :]
    assert read == payloads


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_scanned_to_the_end(data: bytes, last: bool) -> None:
    scan = records.scan(data, 1000, last=last)
    if last:
        assert scan.used == len(data)
        assert b"".join(damage for _, damage in scan.damaged) == data or scan.payloads
