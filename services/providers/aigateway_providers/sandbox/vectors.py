"""Vectors made of hashes: the same text gives the same unit vector, and different texts point elsewhere.

No meaning is in them; they are for trying clients.
"""

from __future__ import annotations

import math
import struct
from hashlib import sha256
from typing import Final

DIMENSIONS: Final = 256
"""The length of a vector when the caller names none."""
MAX_DIMENSIONS: Final = 4096


def unit_vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 with `dimensions` components."""
    components: list[float] = []
    block = 0
    while len(components) < dimensions:
        digest = sha256(f"{block}\0{text}".encode()).digest()
        components += [number / 2**31 for number in struct.unpack(">8i", digest)]
        block += 1
    del components[dimensions:]
    length = math.sqrt(math.fsum(component * component for component in components))
    return [component / length for component in components] if length else [1.0, *components[1:]]
