"""A dictionary of bounded size that forgets what was not used for longest."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar, overload

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Lru(Generic[_Key, _Value]):
    """Keeps `size` values at most."""

    __slots__ = ("_size", "_values")

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[_Key, _Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def get(self, key: _Key) -> _Value | None: ...
    @overload
    def get(self, key: _Key, default: _Value) -> _Value: ...
    def get(self, key: _Key, default: _Value | None = None) -> _Value | None:
        """The value of `key`, which counts as a use of it."""
        value = self._values.get(key)
        if value is None:
            return default
        self._values.move_to_end(key)
        return value

    def put(self, key: _Key, value: _Value) -> _Value | None:
        """Keep `value`; the value that had to go for it, if one had."""
        self._values[key] = value
        self._values.move_to_end(key)
        return self._values.popitem(last=False)[1] if len(self._values) > self._size else None

    def drop(self, key: _Key) -> None:
        """Forget `key`, where it is known."""
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
