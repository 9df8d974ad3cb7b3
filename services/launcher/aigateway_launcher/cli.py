"""The command line: `aigateway up`, `serve`, `chat`, `models`, `usage`, `check-config`, `conformance`; see `admin` too.

Only parses and prints; what a command does is in the module named after it, loaded when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer
from aigateway_common.settings import ConfigurationError

from aigateway_launcher import grpc_polling, spared
from aigateway_launcher.admin import budgets, keys, projects, watch
from aigateway_launcher.options import ConfigOption, DataOption, JsonOption

app = typer.Typer(
    name="aigateway",
    help="One gateway in front of OpenAI, Anthropic, Gemini, Groq and Ollama.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

HostOption = Annotated[str | None, typer.Option("--host", help="Address of the HTTP port [127.0.0.1].")]
PortOption = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="HTTP port [8080]; 0 takes a free one.")
]
GrpcPortOption = Annotated[
    int | None, typer.Option("--grpc-port", min=0, max=65535, help="gRPC port [50051]; 0 takes a free one.")
]
MetricsOption = Annotated[
    int | None, typer.Option("--metrics-port", min=0, max=65535, help="Port of Prometheus metrics.")
]
UrlOption = Annotated[
    str, typer.Option("--url", envvar="AIGATEWAY_URL", help="Where the gateway is.", show_default=True)
]
KeyOption = Annotated[
    str | None, typer.Option("--key", envvar="GATEWAY_API_KEY", help="The gateway key, if it asks for one.")
]
ReadyOption = Annotated[
    int | None,
    typer.Option("--ready-fd", hidden=True, help="Write the addresses, as JSON, to this descriptor when ready."),
]
LifelineOption = Annotated[
    int | None, typer.Option("--lifeline-fd", hidden=True, help="Stop when this descriptor reaches its end.")
]

DEFAULT_URL = "http://127.0.0.1:8080"


@app.command()
def up(  # noqa: PLR0913 - one parameter per option
    *,
    split: Annotated[bool, typer.Option("--split", help="A process per service instead of one for all.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that divide the calls [1]; one per core is right.")
    ] = None,
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    grpc_port: GrpcPortOption = None,
    data_dir: DataOption = None,
    metrics_port: MetricsOption = None,
    ready_fd: ReadyOption = None,
    lifeline_fd: LifelineOption = None,
) -> None:
    """Start the gateway: everything in one process, in several workers, or split."""
    gc.disable()  # until the services are up: collecting while modules load takes a sixth of the start
    spared.leave_out()
    grpc_polling.read_where_it_waits()
    from aigateway_launcher import start  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.plan import Overrides  # noqa: PLC0415

    overrides = Overrides(config, host, port, grpc_port, data_dir, metrics_port, workers)
    start.up(overrides, split=split, ready_fd=ready_fd, lifeline_fd=lifeline_fd)


@app.command()
def serve(  # noqa: PLR0913 - one parameter per option
    services: Annotated[str, typer.Argument(help="SERVICE[,SERVICE…]: edge, router, usage, provider:NAME.")],
    *,
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    grpc_port: GrpcPortOption = None,
    data_dir: DataOption = None,
    metrics_port: MetricsOption = None,
    ready_fd: ReadyOption = None,
    lifeline_fd: LifelineOption = None,
    worker: Annotated[str | None, typer.Option("--worker", hidden=True, help="Which of the workers this is.")] = None,
) -> None:
    """Start some services in this process; they reach the others by gRPC."""
    gc.disable()  # until the services are up: collecting while modules load takes a sixth of the start
    spared.leave_out()
    grpc_polling.read_where_it_waits()
    from aigateway_launcher import start  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.plan import Overrides  # noqa: PLC0415

    overrides = Overrides(config, host, port, grpc_port, data_dir, metrics_port)
    start.serve(services, overrides, ready_fd=ready_fd, lifeline_fd=lifeline_fd, worker=worker)


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="What to ask; without it, a conversation.")] = None,
    *,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model [the first that is listed].")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions for the model.")] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model through a running gateway."""
    from aigateway_launcher import chat as command  # noqa: PLC0415 - loaded by the command that needs it

    command.run(prompt, model=model, system=system, url=url, key=key, as_json=as_json)


@app.command()
def models(*, url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the models of a running gateway."""
    from aigateway_launcher import models as command  # noqa: PLC0415 - loaded by the command that needs it

    command.run(url=url, key=key, as_json=as_json)


@app.command()
def usage(
    *,
    by: Annotated[
        str, typer.Option("--by", help="model, provider, project, status and day, separated by commas.")
    ] = "model",
    days: Annotated[float | None, typer.Option("--days", help="Only the last so many days.")] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, max=1000, help="List the last so many calls instead.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="HOST:PORT of a usage service, instead of the ledger on this machine."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was called and what it cost."""
    from aigateway_launcher import usage as command  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.plan import Overrides  # noqa: PLC0415

    overrides = Overrides(config=config, data_dir=data_dir)
    command.run(overrides, by=by, days=days, last=last, target=target, as_json=as_json)


@app.command("check-config")
def check_config(*, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether the configuration is right, and what it enables."""
    from aigateway_launcher import check  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.plan import Overrides  # noqa: PLC0415

    check.run(Overrides(config=config), as_json=as_json)


@app.command()
def conformance(
    *,
    target: Annotated[str, typer.Option("--target", help="HOST:PORT of the adapter's ProviderService.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model to call [the first that is listed for text].")
    ] = "",
    embed_model: Annotated[
        str, typer.Option("--embed-model", help="The model that embeds [the first that is listed for it].")
    ] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds a call may take.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Check whether an adapter keeps the contract."""
    from aigateway_launcher import conformance as command  # noqa: PLC0415 - loaded by the command that needs it

    command.run(target, model=model, embed_model=embed_model, seconds=timeout, as_json=as_json)


app.add_typer(projects.app, name="projects")
app.add_typer(keys.app, name="keys")
app.add_typer(budgets.app, name="budgets")
app.command()(watch.alerts)
app.command()(watch.audit)

services = typer.Typer(name="aigateway", add_completion=False, pretty_exceptions_enable=False)
"""The commands that start services, as they are in `app`: making the others takes a tenth of a service's start."""
services.command()(up)
services.command()(serve)


def main() -> None:
    """Run the command; configuration mistakes are printed, not thrown."""
    try:
        (services if sys.argv[1:2] in (["up"], ["serve"]) else app)()
    except ConfigurationError as error:
        print("The configuration has mistakes:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (`head`, for one) has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
