"""Containers of our images, run by crun as the Compose file and the Kubernetes manifests have them run.

That is: by the user that the image names, without capabilities or a way to get some, on a read-only root file system.
Only the network is the machine's own, so that a test reaches the ports.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support import gateway
from support.images import Images

_CGROUPS = "if [ -d /sys/fs/cgroup/unified ]; then mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; fi"
"""crun takes no mixture of both versions of control groups, and needs none."""


@dataclass(frozen=True)
class Container:
    """A running container."""

    running: gateway.Running
    pid: int

    def status(self, name: str) -> list[str]:
        """What the kernel says of the service under `name` (proc_pid_status(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{name}:")).split()[1:]

    def mount_options(self, place: str) -> list[str]:
        """How `place` is mounted in it (proc_pid_mountinfo(5))."""
        lines = [line.split() for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()]
        return next(fields[5] for fields in reversed(lines) if fields[4] == place).split(",")


class Containers:
    """Starts containers; a context manager that ends those that are left. Tests stop theirs and look how they ended."""

    def __init__(self, images: Images, folder: Path) -> None:
        self._images = images
        self._folder = folder
        self._crun = ["crun", "--root", str(folder / "crun"), "--cgroup-manager=disabled"]
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            subprocess.run([*self._crun, "delete", "--force", name], check=True, capture_output=True)

    def start(self, image: str, *arguments: str, data: bool = False, **env: str) -> Container:
        """Run `image` with `arguments`, with a volume at /data or without, and wait until it says that it is ready."""
        name = f"c{len(self._names)}"
        bundle = self._folder / name
        bundle.mkdir(parents=True)
        self._names.append(name)

        def command(*given: str) -> list[str]:
            *ours, descriptor = given
            spec = self._spec(image, [*ours, "3"], env, bundle / "data" if data else None)
            (bundle / "config.json").write_text(json.dumps(spec))
            run = shlex.join([*self._crun, "run", "--bundle", str(bundle), "--preserve-fds", "1", name])
            return ["unshare", "--mount", "sh", "-c", f"{_CGROUPS}; exec {run} 3>/proc/self/fd/{descriptor}"]

        running = gateway.start(bundle, gateway.environment(None), *arguments, program=command)
        state = subprocess.run([*self._crun, "state", name], check=True, capture_output=True, text=True).stdout
        return Container(running, int(json.loads(state)["pid"]))

    def _spec(self, image: str, arguments: list[str], env: dict[str, str], data: Path | None) -> dict[str, Any]:
        """A configuration of the OCI runtime (https://github.com/opencontainers/runtime-spec/blob/main/config.md)."""
        config = self._images.config(image)
        user, _, group = config["User"].partition(":")
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
        ]
        if data is not None:
            data.mkdir()
            os.chown(data, int(user), int(group))
            mounts.append({"destination": "/data", "type": "none", "source": str(data), "options": ["bind"]})
        return {
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": int(user), "gid": int(group)},
                "args": [*config["Entrypoint"], *arguments],
                "env": [*config["Env"], *(f"{key}={value}" for key, value in env.items())],
                "cwd": config["WorkingDir"],
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(self._images.root(image)), "readonly": True},
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
        }
