"""Limits that all workers of a gateway on one machine share, in an LMDB store: memory that they all have mapped.

A call is counted by one small transaction (3 µs; see docs/adr/0007), with no process in between. A worker that is
killed at any moment leaves the store whole and its lock free. What a worker holds is written as its own number, so
the others' stay right whatever becomes of it, and it begins with none when it starts again.

While the store cannot be used (its disk is full) each worker counts for itself. See `shared_counters` for several
machines.
"""

from __future__ import annotations

import hashlib
import struct
import time
from typing import TYPE_CHECKING, Final

import lmdb
from aigateway_common import logs, metrics

from aigateway_router.policy.counters import Counter, MemoryCounters, Taken
from aigateway_router.policy.minutes import MINUTE, Reading
from aigateway_router.policy.places import OwnPlaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from aigateway_router.policy.counters import Charge
    from aigateway_router.settings import Share

_BYTES: Final = 64 * 1024 * 1024
"""What the store may grow to: some 300,000 callers within two minutes."""
_LONGEST_NAME: Final = 500
"""Bytes of a name; the digest stands for a longer one, since LMDB's keys end at 511 bytes."""
_SWEPT: Final = b"swept"
_MINUTES: Final = b"minutes:"
_PLACES: Final = b"places:"
_COUNTER: Final = struct.Struct("<qqq")

_log = logs.get("aigateway.router")


def open_store(folder: Path, size: int = _BYTES) -> lmdb.Environment:
    """The store in `folder`, which a process may open once.

    Nothing is forced to the disk: what is counted there is worth nothing after a power cut.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = lmdb.open(str(folder), map_size=size, sync=False, metasync=False, readahead=False, mode=0o600)
    store.reader_check()  # a reader that was killed would keep old pages from being used again
    return store


class Machine:
    """What one worker counts together with the others.

    Args:
        share: Which worker it is.
        store: Where they count; see `open_store`.
        clock: Seconds, the same in all processes.
    """

    def __init__(self, share: Share, store: lmdb.Environment, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        state = _Availability()
        self.counters = MachineCounters(store, state, clock)
        self.places = MachinePlaces(store, state, share)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


class MachineCounters:
    """Counts the minutes of all workers; see `Counters`."""

    def __init__(self, store: lmdb.Environment, state: _Availability, clock: Callable[[], float]) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._own = MemoryCounters(clock)

    async def take(self, charges: Sequence[Charge]) -> Taken:
        """As in `Counters`; does not wait for anything."""
        try:
            with self._store.begin(write=True) as transaction:
                taken = self._take(transaction, charges)
        except lmdb.Error as error:
            self._state.failed(error)
            return await self._own.take(charges)
        self._state.works()
        return taken

    def settle(self, minute: int, changes: Sequence[tuple[str, int]]) -> None:
        """As in `Counters`."""
        try:
            with self._store.begin(write=True) as transaction:
                now, _ = self._now()
                for name, change in changes:
                    key = _key(_MINUTES, name)
                    if (found := transaction.get(key)) is not None:
                        counter = _counter(found, now)
                        counter.add(minute, change)
                        transaction.put(key, _packed(counter))
        except lmdb.Error as error:
            self._state.failed(error)

    async def stop(self) -> None:
        """Nothing is ever under way."""

    def _take(self, transaction: lmdb.Transaction, charges: Sequence[Charge]) -> Taken:
        minute, elapsed = self._now()
        keys = [_key(_MINUTES, charge.name) for charge in charges]
        counters = [_counter(transaction.get(key), minute) for key in keys]
        readings = tuple(Reading(counter.previous, counter.current, elapsed) for counter in counters)
        granted = all(
            reading.used + charge.cost <= charge.limit for reading, charge in zip(readings, charges, strict=True)
        )
        if granted:
            _sweep(transaction, minute)
            for key, counter, charge in zip(keys, counters, charges, strict=True):
                counter.add(minute, charge.cost)
                transaction.put(key, _packed(counter))
        return Taken(granted, minute, readings, self)

    def _now(self) -> tuple[int, float]:
        minute, elapsed = divmod(self._clock(), MINUTE)
        return int(minute), elapsed


class MachinePlaces:
    """Gives out the places of all workers; see `Places`."""

    shared = True

    def __init__(self, store: lmdb.Environment, state: _Availability, share: Share) -> None:
        self._store = store
        self._state = state
        self._worker = share.worker
        self._slots = struct.Struct(f"<{share.workers}I")
        self._own = OwnPlaces()
        with store.begin(write=True) as transaction:
            for key, slots in list(self._all(transaction)):
                self._write(transaction, key, slots, 0)

    def enter(self, wanted: Sequence[tuple[str, int]]) -> str | None:
        """As in `Places`."""
        held = self._own.held
        try:
            with self._store.begin(write=True) as transaction:
                found = [self._read(transaction, _key(_PLACES, name)) for name, _ in wanted]
                for (name, most), slots in zip(wanted, found, strict=True):
                    if self._others(slots) + held.get(name, 0) >= most:
                        return name
                for (name, _), slots in zip(wanted, found, strict=True):
                    self._write(transaction, _key(_PLACES, name), slots, held.get(name, 0) + 1)
        except lmdb.Error as error:
            self._state.failed(error)
        else:
            self._state.works()
            wanted = [(name, held.get(name, 0) + 1) for name, _ in wanted]  # granted, whatever the own share is
        return self._own.enter(wanted)

    def leave(self, names: Iterable[str]) -> None:
        """As in `Places`."""
        names = list(names)
        self._own.leave(names)
        if names:
            self._publish(names)

    def tell(self, name: str, count: int) -> None:
        """As in `Places`."""
        self._own.tell(name, count)
        self._publish([name])

    def elsewhere(self, name: str) -> int:
        """As in `Places`."""
        try:
            with self._store.begin() as transaction:
                return self._others(self._read(transaction, _key(_PLACES, name)))
        except lmdb.Error as error:
            self._state.failed(error)
            return 0

    def _publish(self, names: Sequence[str]) -> None:
        try:
            with self._store.begin(write=True) as transaction:
                for name in names:
                    key = _key(_PLACES, name)
                    self._write(transaction, key, self._read(transaction, key), self._own.held.get(name, 0))
        except lmdb.Error as error:
            self._state.failed(error)

    def _all(self, transaction: lmdb.Transaction) -> Iterator[tuple[bytes, list[int]]]:
        for key, value in _prefixed(transaction, _PLACES):
            yield key, list(self._slots.unpack(value))

    def _read(self, transaction: lmdb.Transaction, key: bytes) -> list[int]:
        value = transaction.get(key)
        return [0] * (self._slots.size // 4) if value is None else list(self._slots.unpack(value))

    def _write(self, transaction: lmdb.Transaction, key: bytes, slots: list[int], own: int) -> None:
        slots[self._worker] = own
        if any(slots):
            transaction.put(key, self._slots.pack(*slots))
        else:
            transaction.delete(key)

    def _others(self, slots: list[int]) -> int:
        return sum(slots) - slots[self._worker]


class _Availability:
    """Whether the store works, told once when that changes."""

    def __init__(self) -> None:
        self._away = False
        metrics.shared_limits(available=True)

    def works(self) -> None:
        if self._away:
            self._away = False
            metrics.shared_limits(available=True)
            _log.info("limits are shared again")

    def failed(self, error: lmdb.Error) -> None:
        if not self._away:
            self._away = True
            metrics.shared_limits(available=False)
            _log.error("limits are counted by each worker for itself", error=str(error))


def _key(kind: bytes, name: str) -> bytes:
    raw = name.encode()
    return kind + (raw if len(raw) <= _LONGEST_NAME else hashlib.blake2b(raw).digest())


def _counter(found: bytes | memoryview | None, minute: int) -> Counter:
    counter = Counter(minute)
    if found is not None:
        counter.minute, counter.previous, counter.current = _COUNTER.unpack(found)
        counter.roll(minute)
    return counter


def _packed(counter: Counter) -> bytes:
    return _COUNTER.pack(counter.minute, counter.previous, counter.current)


def _sweep(transaction: lmdb.Transaction, minute: int) -> None:
    """Once a minute, forget the counters that nobody used for two."""
    now = minute.to_bytes(8, "little")
    if transaction.get(_SWEPT) == now:
        return
    transaction.put(_SWEPT, now)
    stale = [key for key, value in _prefixed(transaction, _MINUTES) if _COUNTER.unpack(value)[0] < minute - 1]
    for key in stale:
        transaction.delete(key)


def _prefixed(transaction: lmdb.Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    with transaction.cursor() as cursor:
        if cursor.set_range(prefix):
            for found, value in cursor:
                key = bytes(found)
                if not key.startswith(prefix):
                    return
                yield key, bytes(value)
