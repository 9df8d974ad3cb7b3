"""The files of the outbox: append, read on from the cursor, acknowledge. Synchronous, and ignorant of gRPC.

A folder holds numbered segments of records (see `records`), a cursor that says up to where everything is delivered, and
a lock. Every start begins a new segment, so nothing is ever appended after a torn record. A cursor that is behind, or
lost, only means that events are delivered again; the ledger knows them by their ids.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway_common import logs

from aigateway_router import records

if TYPE_CHECKING:
    from pathlib import Path

_CURSOR: Final = struct.Struct("<4sQQI")
_CURSOR_MAGIC: Final = b"\xa1GWC"
_SEGMENT: Final = "{:020d}.log"
_WINDOW: Final = 512 * 1024
"""Bytes read at once; more only past damage or for an event larger than this."""
_PROBE_BYTES: Final = 64 * 1024
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND

_log = logs.get("aigateway.outbox")


class OutboxLockedError(Exception):
    """Another process uses the folder."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events read, and where the cursor stands once they are delivered."""

    payloads: list[bytes]
    segment: int
    offset: int


class Store:
    """One folder of usage events, opened for this process alone.

    Raises:
        OutboxLockedError: Another process has the folder.
        OSError: The folder cannot be made or read.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, fsync: bool = False) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _locked(folder)
        self._cursor_fd = os.open(folder / "cursor", os.O_RDWR | os.O_CREAT, 0o600)
        self._sizes = _segments(folder)
        """Bytes of each segment, oldest first; those of the one being written included."""
        self._segment, self._offset = self._recover_cursor()
        self._next = max([self._segment, *self._sizes]) + 1
        self._total = sum(self._sizes.values())
        self._writer: int | None = None
        self._written = 0
        """The segment being written, while there is a `_writer`."""
        self._reader: tuple[int, int] | None = None
        """The segment being read, and its descriptor."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        return self._total - self._offset

    def append(self, payload: bytes) -> None:
        """Keep one event, by one write.

        Raises:
            OSError: It could not be written whole (the disk is full); nothing of it is kept.
        """
        record = records.encode(payload)
        if self._writer is None or self._sizes[self._written] >= self._segment_bytes:
            self._begin_segment()
        if self._writer is None:
            raise AssertionError
        try:
            _write_whole(self._writer, record)
            if self._fsync:
                os.fdatasync(self._writer)
        except OSError:
            self._undo()
            raise
        self._sizes[self._written] += len(record)
        self._total += len(record)

    def read(self, limit: int) -> Batch:
        """The next events after the cursor, at most `limit`; none when all are delivered.

        Damaged bytes are skipped: set aside in a file, unless they are the torn end that a crash leaves.
        """
        while True:
            size = self._sizes.get(self._segment, 0)
            if self._offset < size:
                return self._read_segment(limit, size)
            if not self._leave_segment():
                return Batch([], self._segment, self._offset)

    def acknowledge(self, batch: Batch) -> None:
        """Note that everything up to the end of `batch` is delivered."""
        if (batch.segment, batch.offset) == (self._segment, self._offset):
            return
        self._offset = batch.offset
        body = struct.pack("<QQ", self._segment, self._offset)
        os.pwrite(self._cursor_fd, _CURSOR_MAGIC + body + struct.pack("<I", zlib.crc32(body)), 0)

    def set_aside(self, name: str, data: bytes) -> Path:
        """Keep bytes that cannot be delivered in a file of their own, for people to look at."""
        path = self._folder / name
        path.write_bytes(data)
        return path

    def is_writable(self) -> bool:
        """Whether the disk takes data (again)."""
        path = self._folder / "probe"
        try:
            path.write_bytes(bytes(_PROBE_BYTES))
            path.unlink()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the files and give up the lock; what is not delivered stays for the next start."""
        self._close_reader()
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None
        os.close(self._cursor_fd)
        os.close(self._lock)

    def _recover_cursor(self) -> tuple[int, int]:
        """Where delivery goes on. Segments before that are gone, or were about to be deleted."""
        segment, offset = _parse_cursor(os.pread(self._cursor_fd, _CURSOR.size, 0))
        for old in [number for number in self._sizes if number < segment]:
            self._delete(old)
        if segment in self._sizes:
            return segment, min(offset, self._sizes[segment])
        return min(self._sizes, default=segment), 0

    def _begin_segment(self) -> None:
        writer = os.open(self._folder / _SEGMENT.format(self._next), _APPEND, 0o600)
        if self._writer is not None:
            os.close(self._writer)
        self._writer, self._written = writer, self._next
        self._sizes[self._next] = 0
        self._next += 1
        if self._fsync:
            _sync_folder(self._folder)

    def _undo(self) -> None:
        """Take back what a failed append left; when even that fails, leave the segment as it is for good."""
        writer, kept = self._writer, self._sizes[self._written]
        if writer is None:
            return
        try:
            os.ftruncate(writer, kept)
        except OSError:
            self._writer = None
            os.close(writer)

    def _read_segment(self, limit: int, size: int) -> Batch:
        data = self._bytes(self._offset, min(_WINDOW, size - self._offset))
        scan = records.scan(data, limit, last=self._offset + len(data) >= size)
        if not scan.used:
            data = self._bytes(self._offset, size - self._offset)
            scan = records.scan(data, limit, last=True)
        for start, damage in scan.damaged:
            at_end = self._offset + start + len(damage) >= size
            if not (at_end and records.is_torn(damage)):
                self._report_damage(self._offset + start, damage)
        return Batch(scan.payloads, self._segment, self._offset + (scan.used or size - self._offset))

    def _report_damage(self, offset: int, damage: bytes) -> None:
        path = self.set_aside(f"damaged-{self._segment}-{offset}.bin", damage)
        _log.error("outbox: damaged bytes set aside", file=str(path), size=len(damage))

    def _bytes(self, offset: int, length: int) -> bytes:
        if self._reader is None or self._reader[0] != self._segment:
            self._close_reader()
            self._reader = (self._segment, os.open(self._folder / _SEGMENT.format(self._segment), os.O_RDONLY))
        return os.pread(self._reader[1], length, offset)

    def _leave_segment(self) -> bool:
        """Go on to the next segment and delete the delivered one; False when there is no other."""
        following = next((number for number in self._sizes if number > self._segment), None)
        if following is None:
            return False
        self._close_reader()
        delivered, self._segment, self._offset = self._segment, following, 0
        if delivered in self._sizes:
            self._total -= self._sizes[delivered]
            self._delete(delivered)
        return True

    def _delete(self, segment: int) -> None:
        del self._sizes[segment]
        (self._folder / _SEGMENT.format(segment)).unlink(missing_ok=True)

    def _close_reader(self) -> None:
        if self._reader is not None:
            os.close(self._reader[1])
            self._reader = None


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _locked(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OutboxLockedError(
            f"another process uses the outbox `{folder}`; stop it, or give this one another data folder"
        ) from error
    return lock


def _segments(folder: Path) -> dict[int, int]:
    found = {int(path.stem): path.stat().st_size for path in folder.glob("*.log") if path.stem.isdecimal()}
    return dict(sorted(found.items()))


def _parse_cursor(data: bytes) -> tuple[int, int]:
    """The segment and offset that a cursor file holds; the very beginning when it is damaged or empty."""
    if len(data) != _CURSOR.size:
        return 0, 0
    magic, segment, offset, checksum = _CURSOR.unpack(data)
    if magic != _CURSOR_MAGIC or zlib.crc32(data[4:20]) != checksum:
        return 0, 0
    return segment, offset


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
