"""The words around the tables of `docs/performance.md`: what a run was made on, how, and what it does not say. Pure."""

from __future__ import annotations

import statistics
import textwrap
from typing import Final

from bench.results import Run
from bench.table import short

TARGETS: Final = """
Ratios are of CPU time within this run, with ledger, keys, limits and metrics on. Whether each is met is computed
from the tables below.
"""
PROCESSES: Final = """
Rows of more than one process. Memory is the proportional set size, so that pages that processes share count once.
"""
FEATURES: Final = """
CPU milliseconds of a call (32 at once) and of a stream (64 at once, 10 ms apart). Each of the first five lines has
one feature more than the one above it; the others add theirs to the fifth. Traces go to a real OTLP receiver.
"""
ROUTES: Final = """
CPU milliseconds of a call to an alias. Of a thousand names in `aigateway.yaml` half are aliases, half patterns of
prices; what is called comes last in each.
"""


def paragraphs(text: str, first: str = "", others: str = "") -> str:
    """What blank lines part, in lines of an even length; `first` and `others` stand before the lines of each."""
    parts = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    wrapper = textwrap.TextWrapper(
        120, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
    return ("\n" if first else "\n\n").join(wrapper.fill(part) for part in parts) + "\n"


def bullets(text: str) -> str:
    """A list of what blank lines part."""
    return paragraphs(text, "- ", "  ")


def made(run: Run) -> str:
    """Machine, versions, date, the command and what is missing."""
    about = run.about
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    text = f"""
Measured {about["date"]} on {about["machine"]}, in {about["minutes"]:.0f} minutes, with {versions}. To repeat it:
`{about["command"]}`.
"""
    if about["quick"]:
        text += f"""
**A smoke run** beside other work, with windows of {about["window_s"]:g} s and one round: its figures show that
everything is measured, and nothing else.
"""
    left_out = "\n\n".join(f"Left out: {title}; {reason}." for title, reason in run.left_out().items())
    return paragraphs(text) + ("\n" + bullets(left_out) if left_out else "")


def method(run: Run) -> str:
    """How, the ceiling of mock and load, how quiet the host was, what failed, and caveats."""
    return bullets(_how(run) + _ceiling(run) + _host(run) + _failures(run) + _CAVEATS)


def _how(run: Run) -> str:
    rounds, window, tool = run.about["rounds"], run.about["window_s"], run.about["whole_calls_by"]
    return f"""
One machine, one mock provider, one load, one run. All servers run at the same time and take turns, load by load and
round by round. Rounds: {rounds}. Figures are medians over them, ± half of the distance between the least and the most.

A load is measured for at least {window:g} s after a time to warm up, and for longer where a slow server has not given
every caller two answers. CPU is the operating system's account of the row's whole process tree, user and system,
between two readings in the middle of the load, divided by the calls (of streams: the chunks) between the same
readings.

Whole calls are made by {tool}, streams and calls over gRPC by generators in `bench/`; the latter share one channel.

TTFT is the time to the first chunk of a stream, for one caller. The provider sends the role and the first word at
once, the others 10 ms later. Gaps are between chunks as they arrive. What is added is the row's figure less the same
figure without a gateway.

Cold start is from starting the command to the first answered call, with files in the page cache and a ledger that
is there already. It and idle memory are measured with no other server running.

On in all main rows of ours: the ledger, keys in its database, limits of the key and of its project, metrics.

LiteLLM has one worker, uvloop, no database and a master key, and logs errors only. Portkey is its Node.js build
with `NODE_ENV=production`. Neither keeps a ledger or counts limits here. Envoy has one worker thread.
"""


def _ceiling(run: Run) -> str:
    calls, streams = (short(run.value("direct", case, "calls_per_s")) for case in ("unary-32", "burst-64"))
    text = f"""
Without a gateway, mock and load reach {calls} calls/s (32 at once) and {streams} streams/s (chunks at once, 64 at
once).
"""
    others = [one for one in run.lines if "mock_busy" in one and one["row"] != "direct"]
    for name, figure in (("mock", "mock_busy"), ("load", "load_busy")):
        most = max(others, key=lambda one: float(one[figure]))
        share = most[figure] * 100
        text += f"""
The busiest that the {name} was before a gateway is {share:.0f} % of a core ({most["title"]}, `{most["case"]}`).
"""
    return text


def _host(run: Run) -> str:
    loops = run.about["host_loop_ms"]
    busy = sorted(one["others_busy"] * 100 for one in run.lines if "others_busy" in one)
    return f"""
Other processes and the host took {statistics.median(busy):.1f} % of the machine in the median cell and
{busy[-1]:.1f} % in the worst. A fixed loop took {loops[0]:.3g} to {loops[-1]:.3g} ms of CPU through the run,
{statistics.median(loops):.3g} at the median.
"""


def _failures(run: Run) -> str:
    return "".join(f"\nFailed: {one['title']}, `{one['case']}`: {one['failed']}.\n" for one in run.failures())


_CAVEATS: Final = """
Gateway, mock and load share the machine's cores, so calls/s and latencies at many connections are those of a
machine that is full. CPU of a call is what a gateway costs wherever it runs. Compare ratios rather than
milliseconds, and no figure with one of another run.

The gateways do not do the same: only ours has a ledger, keys in a database and limits switched on, and the floor
and Envoy neither read nor translate anything. The mock's answers are short, and what a provider takes is in no
figure.
"""
