"""Memory that is free goes back to the system, and is not looked for when nothing was taken."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

import pytest
from aigateway_common import allocator

_FILLED_AND_FREED = """
import asyncio, itertools
from aigateway_common import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

async def main():
    assert allocator.use_one_arena()
    allocator.PAUSE = 0.01
    before = resident()
    held = [b"x" * (100_000 + i % 2) for i in range(400)]
    assert resident() - before > 30_000_000
    pin = b"y" * len(held[0])  # above them in the arena, so that freeing them does not shorten it
    del held
    giving = asyncio.create_task(allocator.give_back())
    async with asyncio.timeout(30):
        while resident() - before > 10_000_000:
            await asyncio.sleep(0.01)
    print("given back", len(pin))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_memory_of_large_bodies_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", _FILLED_AND_FREED], capture_output=True, text=True, check=False)
    assert done.stdout == "given back 100000\n", done.stderr


async def test_nothing_is_looked_for_until_memory_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = iter([600, 700, 900, 1300, 1400, 1500])
    given: list[int] = []
    done = asyncio.Event()

    def count() -> int:
        found = next(touched, None)
        if found is None:
            done.set()
            return 1500
        return found

    monkeypatch.setattr(allocator, "PAUSE", 0)
    monkeypatch.setattr(allocator, "_touched", count)
    monkeypatch.setattr(allocator, "_function", lambda _name: given.append)
    task = asyncio.create_task(allocator.give_back())
    await done.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert len(given) == 2  # at 600, and at 1300, which is 600 after the 700 that giving back was done at


async def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_function", lambda _name: None)
    assert not allocator.use_one_arena()
    await allocator.give_back()
