"""`/admin/usage`, `/costs`, `/errors` and `/requests`: what the ledger knows, as JSON or CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from aigateway.v1 import usage_service_pb2
from aigateway_common.errors import invalid
from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it
from starlette.responses import Response

from aigateway_edge.admin.csv_form import to_csv
from aigateway_edge.admin.json_form import microseconds, number, to_json, words
from aigateway_edge.admin.report_shapes import (
    Asked,
    AskedAttempts,
    AskedFailures,
    AskedSums,
    Attempt,
    Attempts,
    AttemptUsage,
    Costs,
    Summary,
    Sums,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import APIRouter

    from aigateway_edge.admin.caller import Admin

_KEY: Final = usage_service_pb2.SummaryKey.DESCRIPTOR
_STATUS: Final = usage_service_pb2.AttemptStatus.DESCRIPTOR
_KEYS: Final = tuple(words(_KEY))
_SUMS: Final = tuple(name for name in Sums.model_fields if name not in _KEYS)
_TOKENS: Final = tuple(f"usage.{name}" for name in AttemptUsage.model_fields if name != "native")
_COLUMNS: Final = (*(name for name in Attempt.model_fields if name != "usage"), *_TOKENS)
_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string", "description": "With a header line."}}}}
}
_NEXT_PAGE: Final = "x-next-page-token"


class ReportRoutes:
    """The routes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def add_to(self, routes: APIRouter) -> None:
        """Add them."""

        def add(path: str, endpoint: Any, name: str, summary: str, model: type) -> None:
            routes.add_api_route(
                path,
                endpoint,
                name=name,
                summary=summary,
                response_model=model,
                response_model_exclude_unset=True,
                responses=_CSV,
            )

        add("/usage", self.usage, "summarizeUsage", "Sum attempts up", Summary)
        add("/usage/daily", self.daily, "dailyUsage", "Sum attempts up by day", Summary)
        add("/costs", self.costs, "costs", "What attempts cost", Costs)
        add("/errors", self.errors, "listErrors", "List failed attempts", Attempts)
        add("/requests", self.requests, "listRequests", "List attempts", Attempts)

    async def usage(self, request: Request, asked: Annotated[AskedSums, Query()]) -> Any:
        """Sum attempts up by model, or by what `by` says; most attempts first."""
        keys = _keys("model" if asked.by is None else asked.by)
        return _sums(request, asked, keys, {"rows": await self._rows(request, asked, keys)})

    async def daily(self, request: Request, asked: Annotated[AskedSums, Query()]) -> Any:
        """Sum attempts up by day, and by what `by` says; the oldest day first."""
        keys = list(dict.fromkeys(["day", *_keys(asked.by or "")]))
        rows = await self._rows(request, asked, keys)
        return _sums(request, asked, keys, {"rows": sorted(rows, key=lambda row: row["day"])})

    async def costs(self, request: Request, asked: Annotated[AskedSums, Query()]) -> Any:
        """Sum costs up by provider and model, or by what `by` says; the dearest first."""
        keys = _keys("provider,model" if asked.by is None else asked.by)
        rows = await self._rows(request, asked, keys)
        rows.sort(key=lambda row: -row["cost_usd"])
        total, unpriced = sum(row["cost_usd"] for row in rows), sum(row["unpriced"] for row in rows)
        return _sums(request, asked, keys, {"total_usd": total, "unpriced": unpriced, "rows": rows})

    async def errors(self, request: Request, asked: Annotated[AskedFailures, Query()]) -> Any:
        """List failed attempts, newest first."""
        return await self._attempts(request, asked, ["error"])

    async def requests(self, request: Request, asked: Annotated[AskedAttempts, Query()]) -> Any:
        """List attempts, newest first."""
        return await self._attempts(request, asked, asked.status)

    async def _rows(self, request: Request, asked: AskedSums, keys: list[str]) -> list[dict[str, Any]]:
        group = [usage_service_pb2.SummaryKey.ValueType(number(_KEY, key)) for key in keys]
        call = usage_service_pb2.SummarizeAttemptsRequest(filter=_filter(asked, asked.status), group_by=group)
        answer = await self._admin.call(request, self._admin.usage.SummarizeAttempts, call)
        found = [to_json(row) for row in answer.rows]
        return [dict(zip(keys, row["keys"], strict=True)) | {name: row[name] for name in _SUMS} for row in found]

    async def _attempts(self, request: Request, asked: AskedFailures, statuses: Iterable[str]) -> Any:
        call = usage_service_pb2.ListAttemptsRequest(
            filter=_filter(asked, statuses), page_size=asked.page_size, page_token=asked.page_token
        )
        answer = await self._admin.call(request, self._admin.usage.ListAttempts, call)
        found = to_json(answer)
        if not _wants_csv(request, asked):
            return found
        response = _csv(_COLUMNS, found["attempts"])
        if answer.next_page_token:
            response.headers[_NEXT_PAGE] = answer.next_page_token
        return response


def _filter(asked: Asked, statuses: Iterable[str]) -> usage_service_pb2.AttemptFilter:
    return usage_service_pb2.AttemptFilter(
        from_us=None if asked.begin is None else microseconds(asked.begin),
        until_us=None if asked.until is None else microseconds(asked.until),
        models=asked.model,
        providers=asked.provider,
        projects=asked.project,
        statuses=[usage_service_pb2.AttemptStatus.ValueType(number(_STATUS, status)) for status in statuses],
        request_id=asked.request_id,
    )


def _keys(text: str) -> list[str]:
    keys = [key.strip() for key in text.split(",") if key.strip()]
    for key in keys:
        if key not in _KEYS:
            raise invalid("by", f"`by`: `{key}` is not one of {', '.join(f'`{one}`' for one in _KEYS)}")
    return list(dict.fromkeys(keys))


def _sums(request: Request, asked: AskedSums, keys: list[str], found: dict[str, Any]) -> Any:
    return _csv([*keys, *_SUMS], found["rows"]) if _wants_csv(request, asked) else found


def _wants_csv(request: Request, asked: Asked) -> bool:
    if asked.format is not None:
        return asked.format == "csv"
    accept = request.headers.get("accept", "")
    return "text/csv" in accept and "application/json" not in accept


def _csv(columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> Response:
    return Response(to_csv(tuple(columns), rows), media_type="text/csv")
