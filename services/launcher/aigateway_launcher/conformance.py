"""`aigateway conformance`: whether an adapter keeps the contract, in a table that says what it does not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from aigateway_common.serving import grpc_channel
from aigateway_providers.conformance import suite
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aigateway_launcher.certificates import of_command

if TYPE_CHECKING:
    from aigateway_providers.conformance.verdict import Result

_COLOURS: Final = {"pass": "green", "fail": "bold red", "skip": "yellow"}


def run(target: str, *, model: str, embed_model: str, seconds: float, as_json: bool) -> None:
    """Run every case against the adapter at `target` and print what became of each; exit with 1 when one failed."""
    results = asyncio.run(_results(target, model=model, embed_model=embed_model, seconds=seconds))
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        _print(results)
    if any(result.outcome == "fail" for result in results):
        sys.exit(1)


async def _results(target: str, *, model: str, embed_model: str, seconds: float) -> list[Result]:
    with Console(stderr=True).status("calling the adapter…") as status:
        async with grpc_channel(target, of_command(None, os.environ)) as channel:
            return await suite.run(
                channel,
                model=model,
                embed_model=embed_model,
                seconds=seconds,
                done=lambda result: status.update(f"after {result.case}…"),
            )


def _print(results: list[Result]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("case", "outcome", "seconds", "detail"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for result in results:
        colour = _COLOURS[result.outcome]
        detail = escape(result.detail)
        if result.outcome == "fail":
            detail = f"{detail}\n[dim]{escape(result.promise)}[/dim]"
        table.add_row(result.case, f"[{colour}]{result.outcome}[/{colour}]", f"{result.seconds:.2f}", detail)
    console.print(table)
    counts = Counter(result.outcome for result in results)
    console.print(f"\n{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
