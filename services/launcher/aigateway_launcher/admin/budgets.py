"""`aigateway budgets`: how much money calls may cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from aigateway_launcher.options import AdminKeyOption, ConfigOption, DataOption, GatewayOption, JsonOption

app = typer.Typer(help="Budgets: how much money calls may cost.", no_args_is_help=True)

Scope = Literal["key", "project", "provider"]
Period = Literal["day", "week", "month", "total"]
BudgetArgument = Annotated[str, typer.Argument(metavar="ID", help="The budget's id, such as project:search:month.")]


@app.command("list")
def listing(
    *,
    scope: Annotated[Scope | None, typer.Option("--scope", help="Only of this scope.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only of this subject.")] = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List budgets with what is spent."""
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415 - loaded by the command that needs it

    where = Where(url, admin_key, config, data_dir, as_json)
    _show(ask(where, "GET", "/budgets", scope=scope, subject=subject)["budgets"], as_json=as_json)


@app.command("set")
def put(  # noqa: PLR0913 - one parameter per option
    scope: Annotated[Scope, typer.Argument(help="What it limits.")],
    subject: Annotated[str, typer.Argument(help="The id of the key or project, or the name of the provider.")],
    *,
    limit: Annotated[float, typer.Option("--limit", metavar="USD", help="US dollars, more than 0.")],
    period: Annotated[Period, typer.Option("--period", help="When spending begins anew, in UTC.")] = "month",
    allow_unpriced: Annotated[
        bool, typer.Option("--allow-unpriced", help="Let calls through whose price is unknown.")
    ] = False,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a budget, or change the one of the same scope, subject and period."""
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415 - loaded by the command that needs it

    body = {
        "scope": scope,
        "subject": subject,
        "period": period,
        "limit_usd": limit,
        "allow_unpriced": allow_unpriced,
    }
    _show(ask(Where(url, admin_key, config, data_dir, as_json), "PUT", "/budgets", body), as_json=as_json)


@app.command()
def delete(
    budget: BudgetArgument,
    *,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a budget; what was spent is still in the ledger."""
    from aigateway_launcher.admin.ask import Where, ask, part  # noqa: PLC0415 - loaded by the command that needs it

    ask(Where(url, admin_key, config, data_dir, as_json), "DELETE", f"/budgets/{part(budget)}")
    print("{}" if as_json else f"{budget} is removed.")


@app.command()
def override(
    budget: BudgetArgument,
    *,
    revert: Annotated[bool, typer.Option("--revert", help="Hold calls to the limit again.")] = False,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let calls through beyond the limit until the period ends."""
    from aigateway_launcher.admin.ask import Where, ask, part  # noqa: PLC0415 - loaded by the command that needs it

    act = "revert" if revert else "override"
    where = Where(url, admin_key, config, data_dir, as_json)
    _show(ask(where, "POST", f"/budgets/{part(budget)}/{act}"), as_json=as_json)


def _show(found: Any, *, as_json: bool) -> None:
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it

    columns = (
        ("id", show.field("id")),
        ("limit", show.usd("limit_usd")),
        ("spent", show.usd("spent_usd")),
        ("set aside", show.usd("reserved_usd")),
        ("used", lambda row: f"{(row['spent_usd'] + row['reserved_usd']) / row['limit_usd']:.0%}"),
        ("begins anew", show.when("resets_at", "never")),
        ("overridden until", show.when("overridden_until")),
        ("unpriced calls", lambda row: "allowed" if row["allow_unpriced"] else "refused"),
    )
    show.answer(found, as_json=as_json, columns=columns)
