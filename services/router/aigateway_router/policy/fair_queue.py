"""A bounded queue that takes its items in turn from each project. Pure: it neither waits nor wakes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """One line per project, first come first served; the projects that have one are served round robin.

    A project that asks a lot waits behind itself, not in front of the others: whoever comes to the head of its line
    is served after at most one item of each other project.

    Args:
        most: Items that wait at most, of all projects together.
    """

    __slots__ = ("_lines", "_most", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._lines: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        """By project; the one whose turn it is comes first. No line is empty."""

    def __len__(self) -> int:
        return self._size

    def push(self, project: str, item: T) -> bool:
        """Put `item`, which is in no line yet, at the end of its project's line; False: the queue is full."""
        if self._size >= self._most:
            return False
        self._lines.setdefault(project, OrderedDict())[item] = None
        self._size += 1
        return True

    def make_room(self, project: str) -> T | None:
        """Take out the newest item of the longest line when `project` has two fewer waiting; None: it has to go.

        So one project that asks a lot cannot fill the queue against the others.
        """
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=None)
        if longest is None or len(self._lines[longest]) < len(self._lines.get(project, ())) + 2:
            return None
        item = next(reversed(self._lines[longest]))
        self.remove(longest, item)
        return item

    def pop(self) -> T | None:
        """Take the item whose turn it is; None: nothing waits."""
        if not self._lines:
            return None
        project, line = next(iter(self._lines.items()))
        item, _ = line.popitem(last=False)
        self._size -= 1
        if line:
            self._lines.move_to_end(project)
        else:
            del self._lines[project]
        return item

    def remove(self, project: str, item: T) -> bool:
        """Take `item` out of its line, wherever it stands; False: it is not there."""
        line = self._lines.get(project)
        if line is None or item not in line:
            return False
        del line[item]
        self._size -= 1
        if not line:
            del self._lines[project]
        return True
