"""In which order the members of a pool are tried: by weight, by speed, by where the model or the prompt's cache is.

It makes no calls and knows no health: the caller says which members are usable.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

from aigateway.v1 import message_pb2

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping

    from aigateway.v1 import chat_pb2

    from aigateway_router.settings import Pool

SESSION: Final = "x-session-id"
"""The metadata that names a conversation."""
PREFIX_CHARACTERS: Final = 1024
"""Of the first user message: shorter than what OpenAI caches at all, which is 1,024 tokens
(https://developers.openai.com/api/docs/guides/prompt-caching), so that prompts with a cache in common have one key.
"""
_SMOOTHING: Final = 0.3
"""How much the newest time counts in the average."""
HALF_LIFE: Final = 30.0
"""Seconds after which an average is believed half of the time."""
_INSTRUCTIONS: Final = (message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER)


def _no_wait(_member: str) -> tuple[bool, int]:
    return False, 0


class Balancer:
    """Orders the members of one pool.

    Args:
        pool: See there.
        clock: The time in seconds, as `time.monotonic`.
        rng: Where chance comes from.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float], rng: random.Random) -> None:
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._first_answers: dict[str, tuple[float, float]] = {}
        """Seconds to the first answer on average, and when it was last measured; for members only."""

    def order(
        self, key: str | None, usable: Callable[[str], bool], wait: Callable[[str], tuple[bool, int]] = _no_wait
    ) -> list[str]:
        """All members, the one to try first in front.

        Members of weight 0 come after the others, and what is not usable comes last.

        Args:
            key: Calls with the same key go to the same member, in every process; None: any member.
            usable: Whether a member can take a call now.
            wait: What a call waits for at a member: whether for the model to be loaded, and behind how many calls.
        """
        order = sorted(self._pool.members, key=self._chances(key).__getitem__)
        groups: dict[tuple[bool, bool], list[str]] = {}
        for member in order:
            groups.setdefault((not usable(member), not self._pool.members[member]), []).append(member)
        if key is None and self._pool.strategy == "least_latency":
            for group in groups.values():
                self._quicker_first(group)
        if self._pool.strategy == "resident":
            for group in groups.values():
                group.sort(key=wait)
        return [member for place in sorted(groups) for member in groups[place]]

    def note(self, member: str, seconds: float) -> None:
        """A call to `member` got its first answer after so many seconds."""
        if member in self._pool.members:
            average, _ = self._first_answers.get(member, (seconds, 0.0))
            self._first_answers[member] = (average + _SMOOTHING * (seconds - average), self._clock())

    def _chances(self, key: str | None) -> dict[str, float]:
        """A number for each member: the smallest wins, as often as its weight says.

        -ln(u)/w, of u drawn for each member, is a weighted draw without replacement (Efraimidis and Spirakis, 2006,
        https://doi.org/10.1016/j.ipl.2005.11.003). With u hashed from the key and the member it is weighted
        rendezvous hashing (https://en.wikipedia.org/wiki/Rendezvous_hashing#Weighted_rendezvous_hash): a member
        that goes takes only its own keys with it, and gets them back when it returns.
        """
        return {
            member: -math.log(1 - self._rng.random() if key is None else _share(key, member)) / (weight or 1)
            for member, weight in self._pool.members.items()
        }

    def _quicker_first(self, members: list[str]) -> None:
        """Put the quicker of the first two in front.

        Two random choices spread calls well without all of them running to the quickest
        (https://www.eecs.harvard.edu/~michaelm/postscripts/handbook2001.pdf). Averages are believed less the older
        they are; without both the draw stands, so that a slow member is tried again and a new one is not run over.
        """
        if len(members) > 1:
            first, second = self._believed(members[0]), self._believed(members[1])
            if first is not None and second is not None and second < first:
                members[:2] = members[1], members[0]

    def _believed(self, member: str) -> float | None:
        known = self._first_answers.get(member)
        if known is None:
            return None
        average, measured = known
        fresh = 0.5 ** ((self._clock() - measured) / HALF_LIFE)
        return average if self._rng.random() < fresh else None


def sticky_key(pool: Pool, metadata: Mapping[str, str], call: chat_pb2.ChatCall) -> str | None:
    """What keeps calls of one conversation together in `pool`; None: nothing does."""
    match pool.sticky:
        case "none":
            return None
        case "session":
            return metadata.get(SESSION) or None
        case "prefix":
            return _prefix_key(call)


def _share(key: str, member: str) -> float:
    """A number above 0 and up to 1 that only the two decide."""
    # Not `hash`: it differs from process to process. Names of members have no zero byte, so no two pairs look alike.
    digest = hashlib.blake2b(f"{member}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / 2**64


def _prefix_key(call: chat_pb2.ChatCall) -> str | None:
    """A hash of how the prompt begins, which stays the same while the conversation goes on."""
    digest, found = hashlib.sha256(), False
    for kind, text in _beginning(call):
        found = found or bool(text)
        encoded = text.encode() if isinstance(text, str) else text
        digest.update(b"%s %d " % (kind, len(encoded)) + encoded)
    return digest.hexdigest() if found else None


def _beginning(call: chat_pb2.ChatCall) -> Iterator[tuple[bytes, str | bytes]]:
    """What a provider's cache sees first: tools, instructions, and the first question."""
    for tool in call.tools:
        yield b"tool", tool.function.name or tool.native.json
    for message in call.messages:
        if message.role in _INSTRUCTIONS:
            yield b"instructions", _text(message)
        elif message.role == message_pb2.ROLE_USER:
            yield b"question", _text(message)[:PREFIX_CHARACTERS]
            return


def _text(message: message_pb2.Message) -> str:
    return "".join(part.text.text for part in message.parts if part.HasField("text"))
