"""Counters of limits in Redis, which several routers share.

One script per call counts all of its charges or none, in one round trip and by Redis's own clock. While Redis is away
each router counts for itself: nobody is refused because a cache is down, and nobody is unlimited either. (With N
routers a caller then gets at most N times the limit.)
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from aigateway_common import logs, metrics
from aigateway_common.logins import place, same_place
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError
from typing_extensions import override

from aigateway_router.policy.counters import MemoryCounters, Taken
from aigateway_router.policy.minutes import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway_router.policy.counters import Charge

PREFIX: Final = "aigateway:limits:"
PATIENCE: Final = 0.25
"""Seconds that a call waits for Redis before it is counted here."""
_CONNECTIONS: Final = 32
"""To Redis; calls beyond that wait for one."""
PAUSE: Final = 1.0
"""Seconds that Redis is left alone after it failed, so that calls do not wait for it one after the other."""

# A counter is a hash with one field per minute, of which two are kept. Each script names all of its keys, so that they
# can be sent as they are to whatever speaks the protocol; but a cluster would need them all in one slot.
_TAKE: Final = """
local now = redis.call('TIME')
local seconds = tonumber(now[1]) + tonumber(now[2]) / 1000000
local minute = math.floor(seconds / 60)
local elapsed = seconds - minute * 60
local granted = 1
local answer = {0, minute, tostring(elapsed)}
for index, key in ipairs(KEYS) do
  local previous = tonumber(redis.call('HGET', key, minute - 1) or 0)
  local current = tonumber(redis.call('HGET', key, minute) or 0)
  local used = current + math.ceil(previous * (60 - elapsed) / 60)
  if used + tonumber(ARGV[2 * index]) > tonumber(ARGV[2 * index - 1]) then granted = 0 end
  table.insert(answer, previous)
  table.insert(answer, current)
end
if granted == 1 then
  for index, key in ipairs(KEYS) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if tonumber(field) < minute - 1 then redis.call('HDEL', key, field) end
    end
    redis.call('HINCRBY', key, minute, ARGV[2 * index])
    redis.call('EXPIRE', key, 180)
  end
end
answer[1] = granted
return answer
"""
_SETTLE: Final = """
local minute = tonumber(ARGV[1])
local now = tonumber(redis.call('TIME')[1])
if minute < math.floor(now / 60) - 1 then return 0 end
for index, key in ipairs(KEYS) do
  local counted = redis.call('HGET', key, minute)
  if counted then
    redis.call('HSET', key, minute, math.max(0, tonumber(counted) + tonumber(ARGV[index + 1])))
  end
end
return 1
"""

_log = logs.get("aigateway.router")


class _Login(CredentialProvider):
    """What a connection shows when it is made, the same one anew when it was lost."""

    def __init__(self, url: str) -> None:
        self.change(url)

    def change(self, url: str) -> None:
        given = parse_url(url)
        self._shown = tuple(str(given[name]) for name in ("username", "password") if given.get(name))

    @override
    def get_credentials(self) -> Any:
        return self._shown

    @override
    async def get_credentials_async(self) -> Any:
        return self._shown


class SharedCounters:
    """Counts in Redis at `url`, and in memory while it is away. Call it in the event loop that is to serve."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._login = _Login(url)
        pool = BlockingConnectionPool.from_url(
            place(url),
            credential_provider=self._login,
            max_connections=_CONNECTIONS,
            timeout=PATIENCE,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._take = self._redis.register_script(_TAKE)
        self._settle = self._redis.register_script(_SETTLE)
        self._own = MemoryCounters()
        self._away_until = 0.0
        self._away = False
        self._settling: set[asyncio.Task[None]] = set()
        metrics.shared_limits(available=True)

    def log_in(self, url: str) -> None:
        """Show the login of `url` for new connections; those that are open stay. Another Redis is no login."""
        if same_place(url, self._url):
            self._login.change(url)

    async def take(self, charges: Sequence[Charge]) -> Taken:
        """As in `Counters`."""
        if time.monotonic() >= self._away_until:
            names = [PREFIX + charge.name for charge in charges]
            amounts = [number for charge in charges for number in (charge.limit, charge.cost)]
            answer = await self._run(self._take, names, amounts)
            if answer is not None:
                return self._taken(answer)
        return await self._own.take(charges)

    def settle(self, minute: int, changes: Sequence[tuple[str, int]]) -> None:
        """As in `Counters`; no answer waits for it."""
        names = [PREFIX + name for name, _ in changes]
        amounts = [minute, *(change for _, change in changes)]
        task = asyncio.create_task(self._settled(names, amounts), name="settle limits")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def stop(self) -> None:
        """Finish what is under way, and close the connections."""
        await asyncio.gather(*self._settling)
        await self._redis.aclose()

    async def _settled(self, names: list[str], amounts: list[int]) -> None:
        await self._run(self._settle, names, amounts)

    async def _run(self, script: Any, names: list[str], amounts: list[int]) -> Any:
        """The script's answer; None when Redis is away."""
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await script(keys=names, args=amounts)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        if self._away:
            self._away = False
            metrics.shared_limits(available=True)
            _log.info("limits are shared again")
        return answer

    def _failed(self, error: Exception) -> None:
        self._away_until = time.monotonic() + PAUSE
        if not self._away:
            self._away = True
            metrics.shared_limits(available=False)
            _log.error("limits are counted by each router for itself: Redis is away", error=type(error).__name__)

    def _taken(self, answer: Any) -> Taken:
        granted, minute, elapsed, *counts = answer
        seconds = float(elapsed)
        readings = tuple(
            Reading(int(previous), int(current), seconds)
            for previous, current in zip(counts[::2], counts[1::2], strict=True)
        )
        return Taken(bool(granted), int(minute), readings, self)
