#!/usr/bin/env python3
"""Starts Envoy with a configuration made from settings; it ends with the process that started it.

    python3 run.py [--envoy PROGRAM] [NAME=VALUE ...] [-- ARGUMENTS OF ENVOY]

For a laptop, tests and service managers. In a container the image's own Envoy reads the files of `render.py`, and the
container's end is Envoy's.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from render import SettingError, settings_of, write

PR_SET_PDEATHSIG: Final = 1
"""https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html"""


def end_with(parent: int) -> None:
    """Have Linux send SIGTERM to this process when `parent` ends; it is kept through exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before it could be watched
        sys.exit("run: the process that started this one has ended")


def main() -> None:
    """The command."""
    parent = os.getppid()
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envoy", default="envoy", help="the program [the one on PATH]")
    parser.add_argument("--folder", type=Path, help="where the configuration is written [a new folder]")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args(sys.argv[1:split])
    program = shutil.which(options.envoy) or sys.exit(f"run: there is no program `{options.envoy}`")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="envoy-"))
    try:
        file = write(folder, {"FOLDER": str(folder), **settings_of(options.settings, os.environ)})
    except SettingError as error:
        sys.exit(f"run: {error}")
    end_with(parent)
    os.execv(program, [program, "-c", str(file), "--disable-hot-restart", *sys.argv[split + 1 :]])  # noqa: S606 -- its becoming Envoy is the point


if __name__ == "__main__":
    main()
