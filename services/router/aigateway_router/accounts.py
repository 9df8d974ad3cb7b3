"""What the usage service knows of issued keys and budgets, kept here so that calls seldom have to ask.

A key is asked for once, by the digest of its secret; one task asks for what changed twice a second, so that a revoked
key stops within one. While the service is away, keys seen before work on for a while. A service without accounts (an
older one) has no keys and no budgets. Not for what a caller may do (see `callers`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
from aigateway.v1 import account_pb2, account_service_pb2, account_service_pb2_grpc
from aigateway_common import logs, metrics
from aigateway_common.errors import GatewayError
from grpc import aio

from aigateway_router.account_facts import NOTHING, Facts, FactsFile
from aigateway_router.callers import of_key
from aigateway_router.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aigateway_router.callers import Issued
    from aigateway_router.settings import RouterSettings

    _Stub = account_service_pb2_grpc.AccountServiceAsyncStub

POLL: Final = 0.5
"""Seconds between two questions for changes."""
_ABSENT_POLL: Final = 5.0
"""Seconds between them while the service has no accounts."""
_TIMEOUT: Final = 2.0
"""Seconds that the service may take to answer."""
_FIRST_WAIT: Final = 2.0
"""Seconds that a call without a key waits to learn whether there are keys at all."""
_TRIES: Final = 3
"""Times that a key is asked for when something changes while the answer is under way."""
_MISSING_TTL: Final = 5.0
"""Seconds that a wrong key is remembered, so that it is not asked for at every call."""
_LOGGED: Final = 3
"""Polls that fail one after the other before anybody is told: services start at the same time."""
_KEPT: Final = 10_000
"""Keys remembered, and wrong ones beside them: neither can push out the other."""
_MAX_ASKING: Final = 256
"""Keys asked for at the same time; whoever guesses keys must not keep the service busy."""

_log = logs.get("aigateway.router")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for callers without an issued key."""

    project: account_pb2.Project | None
    """The project `default`; None while it is not known."""
    budgeted: bool


class Accounts:
    """Answers who a key belongs to, and who has a budget.

    Args:
        usage: A channel to the usage service; None when there is none.
        settings: See there.
        cut: Ends the calls under way of a key, by its id.
    """

    def __init__(self, usage: aio.Channel | None, settings: RouterSettings, cut: Callable[[str], None]) -> None:
        self._stub: _Stub | None = None if usage is None else account_service_pb2_grpc.AccountServiceStub(usage)
        self._limits = settings.key_limits
        self._grace = settings.key_grace
        self._projects_wanted = settings.jwt is not None
        self._projects_known = False
        self._cut = cut
        self._file = FactsFile(settings.outbox_dir)
        self._facts: Facts | None = NOTHING if usage is None else None
        self._known = asyncio.Event()
        self._revision = 0
        self._epoch = 0
        """Grows whenever something may have changed."""
        self._answered = time.monotonic()
        self._failures = 0
        """Polls that failed one after the other."""
        self._found: Lru[bytes, Issued] = Lru(_KEPT)
        self._digests: dict[str, bytes] = {}
        self._missing: Lru[bytes, float] = Lru(_KEPT)
        self._asking: dict[bytes, asyncio.Task[Issued | None]] = {}
        self._following: asyncio.Task[None] | None = None
        self.defaults = Defaults(None, budgeted=False)
        """Replaced, never changed."""
        self.projects: Mapping[str, account_pb2.Project] = {}
        """By id; filled only where tokens name projects."""

    @property
    def budgeted_providers(self) -> frozenset[str]:
        """Providers at which no attempt may be made before money is reserved."""
        return (self._facts or NOTHING).budgeted_providers

    @property
    def budgeted_projects(self) -> frozenset[str]:
        """Projects that have a budget; filled only where tokens name projects."""
        return (self._facts or NOTHING).budgeted_projects

    async def start(self) -> None:
        """Remember what was known when the router last ran, and begin to follow changes."""
        if self._stub is None:
            return
        remembered = await self._file.read()
        if remembered is not None:
            self._learn(remembered, None)
        self._following = asyncio.create_task(self._follow(self._stub), name="follow account changes")

    async def stop(self) -> None:
        """Ask no longer."""
        tasks = [*self._asking.values(), *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def has_keys(self) -> bool:
        """Whether there are issued keys. Raises GatewayError UNAVAILABLE when that cannot be learned."""
        if self._facts is None:
            try:
                await asyncio.wait_for(self._known.wait(), _FIRST_WAIT)
            except TimeoutError:
                raise _away("whether keys are needed") from None
        return (self._facts or NOTHING).has_keys

    async def resolve(self, digest: bytes) -> Issued | None:
        """The issued key whose secret has this digest; None when there is none.

        Raises:
            GatewayError: UNAVAILABLE, when the key was not seen before and nobody can be asked; OVERLOADED, when too
                many are asked for already.
        """
        now = time.monotonic()
        if (found := self._found.get(digest)) is not None and now - self._answered <= self._grace:
            return found
        if self._stub is None or self._missing.get(digest, 0.0) > now:
            return None
        task = self._asking.get(digest)
        if task is None:
            if len(self._asking) >= _MAX_ASKING:
                raise GatewayError("OVERLOADED", "too many unknown keys are being looked up; try again", retry_after=1)
            task = self._asking[digest] = asyncio.create_task(self._ask(self._stub, digest), name="resolve a key")
        # Others may wait for the same answer: one that goes away does not take it from them.
        return await asyncio.shield(task)

    async def _ask(self, stub: _Stub, digest: bytes) -> Issued | None:
        """The key, kept unless something changes each time while the answer is under way: it may be what is said."""
        try:
            for _ in range(_TRIES):
                epoch = self._epoch
                answer = await stub.ResolveKey(account_service_pb2.ResolveKeyRequest(sha256=digest), timeout=_TIMEOUT)
                issued = of_key(answer, self._limits)
                if epoch == self._epoch:
                    self._keep(digest, issued)
                    break
        except aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}:
                self._missing.put(digest, time.monotonic() + _MISSING_TTL)
                return None
            raise _away("whose key this is") from error
        finally:
            del self._asking[digest]
        return issued

    def _keep(self, digest: bytes, issued: Issued) -> None:
        self._missing.drop(digest)
        self._digests[issued.caller.key_id] = digest
        if (pushed := self._found.put(digest, issued)) is not None:
            self._digests.pop(pushed.caller.key_id, None)

    async def _follow(self, stub: _Stub) -> None:
        while True:
            pause = POLL
            try:
                await self._poll(stub)
            except aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    pause = _ABSENT_POLL
                    self._absent()
                else:
                    self._failed(error.code().name)
            except Exception:  # noqa: BLE001 -- revocation must go on, whatever went wrong once
                _log.exception("account changes not taken")
                self._failed("INTERNAL")
            await asyncio.sleep(pause)

    async def _poll(self, stub: _Stub) -> None:
        request = account_service_pb2.GetAccountChangesRequest(after_revision=self._revision)
        answer = await stub.GetAccountChanges(request, timeout=_TIMEOUT)
        self._forget(answer)
        budgeted_projects = self.budgeted_projects
        other = answer.revision != self._revision or (answer.forget_all and answer.revision)
        if self._projects_wanted and (other or not self._projects_known):
            budgeted_projects = await self._ask_projects(stub)
            self._projects_known = True
        facts = Facts(
            has_keys=answer.has_keys,
            default_budgeted=answer.default_budgeted,
            budgeted_providers=frozenset(answer.budgeted_providers),
            budgeted_projects=budgeted_projects,
        )
        project = answer.default_project if answer.HasField("default_project") else None
        if self._learn(facts, project):
            await self._file.write(facts)
        # Last, so that what was not taken whole is asked for again.
        self._revision = answer.revision
        self._succeeded()

    def _forget(self, answer: account_service_pb2.GetAccountChangesResponse) -> None:
        """Forget what is said to have changed, and end the calls of keys that were cut."""
        if not (answer.forget_all or answer.changed_keys or answer.revision != self._revision):
            return
        self._epoch += 1
        self._missing.clear()
        if answer.forget_all or answer.revision < self._revision:
            self._found.clear()
            self._digests.clear()
        for key_id in answer.changed_keys:
            if (digest := self._digests.pop(key_id, None)) is not None:
                self._found.drop(digest)
        for key_id in answer.cut_keys:
            self._cut(key_id)

    async def _ask_projects(self, stub: _Stub) -> frozenset[str]:
        listed = await stub.ListProjects(account_service_pb2.ListProjectsRequest(), timeout=_TIMEOUT)
        request = account_service_pb2.ListBudgetsRequest(scope=account_pb2.BUDGET_SCOPE_PROJECT)
        budgets = await stub.ListBudgets(request, timeout=_TIMEOUT)
        self.projects = {project.id: project for project in listed.projects}
        return frozenset(budget.subject for budget in budgets.budgets)

    def _learn(self, facts: Facts, project: account_pb2.Project | None) -> bool:
        """Go by `facts` from now on; whether they are new."""
        if facts.default_budgeted != self.defaults.budgeted or project != self.defaults.project:
            self.defaults = Defaults(project, facts.default_budgeted)
        new = facts != self._facts
        self._facts = facts
        self._known.set()
        return new

    def _absent(self) -> None:
        """The service has no accounts. One that had keys has not lost them: then nobody is let in without one."""
        if self._facts is None:
            self._learn(NOTHING, None)
        self._succeeded()

    def _succeeded(self) -> None:
        self._answered = time.monotonic()
        metrics.accounts(reachable=True)
        failures, self._failures = self._failures, 0
        if failures >= _LOGGED:
            _log.info("the usage service can be asked for keys again")

    def _failed(self, code: str) -> None:
        metrics.accounts(reachable=False)
        self._failures += 1
        if self._failures == _LOGGED:
            _log.error("the usage service cannot be asked for keys", code=code, grace_seconds=self._grace)


def _away(what: str) -> GatewayError:
    return GatewayError("UNAVAILABLE", f"the usage service cannot be reached to say {what}; try again", retry_after=1)
