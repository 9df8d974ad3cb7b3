"""The usage service as a component, and its UsageService, which hands requests to the ledger or the queries.

Its AccountService is `account_server`, its AlertService part of `alerts`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import account_service_pb2_grpc, usage_service_pb2, usage_service_pb2_grpc
from aigateway_common import logs
from aigateway_common.errors import invalid
from aigateway_common.telemetry import Telemetry
from typing_extensions import override

from aigateway_usage import account_server, paging, queries, summaries
from aigateway_usage.account_calls import AccountCalls
from aigateway_usage.alerts import alerting
from aigateway_usage.budget_calls import BudgetCalls, now_us
from aigateway_usage.calls import Calls
from aigateway_usage.database import Database
from aigateway_usage.ledger import Ledger
from aigateway_usage.pricing import Pricer
from aigateway_usage.recording import Recorder
from aigateway_usage.rows import from_row
from aigateway_usage.upkeep import Upkeep

if TYPE_CHECKING:
    from grpc import aio

    from aigateway_usage.consumer import Consumer
    from aigateway_usage.rows import Row
    from aigateway_usage.settings import UsageSettings

MAX_ATTEMPTS: Final = 10_000
"""Attempts of one RecordAttempts."""
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100

WARM_UP_AFTER: Final = 1.0
"""Seconds from the start until prices are loaded, unless an attempt needs them before: the rest of the process starts
first."""

_SLICE: Final = 100
"""Rows converted before other calls get their turn; about three milliseconds."""
_SERVICE: Final = usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name
_log = logs.get("usage")


class UsageComponent:
    """The usage service with its database."""

    service_names: tuple[str, ...] = (_SERVICE, account_server.SERVICE, alerting.SERVICE)

    def __init__(self, settings: UsageSettings, *, telemetry: Telemetry | None = None) -> None:
        self._database = Database(settings.database_url, busy_timeout=settings.busy_timeout)
        self._pricer = Pricer(settings)
        self._ledger = Ledger(self._database, max_queued=settings.max_queued_attempts, written=self._written)
        recorder = Recorder(self._ledger, self._pricer)
        self._consumer = _consumer(settings, recorder)
        telemetry = telemetry or Telemetry.off()
        self._servicer = _Servicer(self._database, recorder, telemetry)
        self._budgets = BudgetCalls(self._database, self._pricer)
        self._accounts = account_server.AccountServicer(AccountCalls(self._database), self._budgets, telemetry)
        self._alerts = alerting.Alerting(self._database, settings.alerts, telemetry)
        self._upkeep = Upkeep(self._database, settings.retention_days, now_us)
        self._background: list[asyncio.Task[None]] = []

    def reload(self, settings: UsageSettings) -> None:
        """Show database and NATS the user and password of `settings` from the next connection on."""
        self._database.log_in(settings.database_url)
        if self._consumer is not None:
            self._consumer.log_in(settings.events)

    def register(self, server: aio.Server) -> None:
        """Add the servicers to `server`, before the server starts."""
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server(self._servicer, server)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(self._accounts, server)
        self._alerts.register(server)

    async def start(self) -> None:
        """Open the database; create or upgrade its schema."""
        await self._database.open()
        await self._alerts.start()
        if self._consumer is not None:
            self._consumer.start()
        self._background = [
            asyncio.create_task(self._warm_up(), name="usage-warm-up"),
            asyncio.create_task(self._budgets.sweep_forever(), name="usage-sweep"),
            asyncio.create_task(self._upkeep.run(), name="usage-upkeep"),
        ]

    def _written(self, row: Row) -> None:
        self._pricer.tell(row)
        self._alerts.see(row)

    async def _warm_up(self) -> None:
        await asyncio.sleep(WARM_UP_AFTER)
        await self._pricer.load()

    async def stop(self, grace: float) -> None:
        """Write what waits, for at most `grace` seconds, and close."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        if self._consumer is not None:
            await self._consumer.stop(grace)
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        try:
            async with asyncio.timeout_at(end):
                await self._budgets.flush()
                await self._ledger.flush()
        except TimeoutError:
            _log.warning("attempts were still waiting at the end; their senders were not answered and send them again")
        await self._alerts.stop(max(0.0, end - loop.time()))
        await self._database.close()


class _Servicer(usage_service_pb2_grpc.UsageServiceServicer):
    def __init__(self, database: Database, recorder: Recorder, telemetry: Telemetry) -> None:
        self._database = database
        self._recorder = recorder
        self._calls = Calls(_SERVICE, telemetry)

    @override
    async def RecordAttempts(
        self, request: usage_service_pb2.RecordAttemptsRequest, context: aio.ServicerContext[Any, Any]
    ) -> usage_service_pb2.RecordAttemptsResponse:
        return await self._calls.answer("RecordAttempts", self._record, request, context)

    @override
    async def ListAttempts(
        self, request: usage_service_pb2.ListAttemptsRequest, context: aio.ServicerContext[Any, Any]
    ) -> usage_service_pb2.ListAttemptsResponse:
        return await self._calls.answer("ListAttempts", self._list, request, context)

    @override
    async def SummarizeAttempts(
        self, request: usage_service_pb2.SummarizeAttemptsRequest, context: aio.ServicerContext[Any, Any]
    ) -> usage_service_pb2.SummarizeAttemptsResponse:
        return await self._calls.answer("SummarizeAttempts", self._summarize, request, context)

    async def _record(
        self, request: usage_service_pb2.RecordAttemptsRequest
    ) -> usage_service_pb2.RecordAttemptsResponse:
        if len(request.attempts) > MAX_ATTEMPTS:
            raise invalid("attempts", f"`attempts` holds more than {MAX_ATTEMPTS}")
        recorded = await self._recorder.record(request.attempts)
        return usage_service_pb2.RecordAttemptsResponse(recorded=recorded.new, duplicates=recorded.duplicates)

    async def _list(self, request: usage_service_pb2.ListAttemptsRequest) -> usage_service_pb2.ListAttemptsResponse:
        if not 0 <= request.page_size <= MAX_PAGE:
            raise invalid("page_size", f"`page_size` must be from 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}")
        where = queries.conditions(request.filter)
        after = paging.decode(request.page_token, request.filter)
        size = request.page_size or DEFAULT_PAGE
        found, last = await self._database.read(lambda connection: queries.page(connection, where, after, size))
        answer = usage_service_pb2.ListAttemptsResponse()
        for index, row in enumerate(found):
            if index and index % _SLICE == 0:
                await asyncio.sleep(0)
            answer.attempts.append(from_row(dict(row)))
        if last:
            answer.next_page_token = paging.encode(last, request.filter)
        return answer

    async def _summarize(
        self, request: usage_service_pb2.SummarizeAttemptsRequest
    ) -> usage_service_pb2.SummarizeAttemptsResponse:
        by = summaries.grouping(request.group_by)
        parts = summaries.selects(request.filter, by)
        found = await self._database.read(lambda connection: summaries.summary(connection, parts, by))
        answer = usage_service_pb2.SummarizeAttemptsResponse()
        for index, row in enumerate(found):
            if index and index % _SLICE == 0:
                await asyncio.sleep(0)
            answer.rows.append(summaries.to_row(row, by))
        return answer


def _consumer(settings: UsageSettings, recorder: Recorder) -> Consumer | None:
    if settings.events is None:
        return None
    from aigateway_usage.consumer import Consumer  # noqa: PLC0415 -- loaded only with NATS

    return Consumer(settings.events, recorder)
