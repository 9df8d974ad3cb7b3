"""Images that buildah builds from the Dockerfile as it is, on a base made here; `containers` runs them.

No registry is asked: the base is a release of Debian with its own Python, from Debian's mirror. It stands for the one
that the Dockerfile names, which has its Python at the same path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
VERSION, REVISION = "1.2.3", "0123456789abcdef0123456789abcdef01234567"
_PROGRAMS = ("buildah", "crun", "mmdebstrap", "unshare")
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "python3,python3-venv,libstdc++6,ca-certificates"
_LEFT_OUT = ("doc", "man", "locale", "info")
_PATHS = {"cert", "client-cert"}
_INDEX = {"index-url", "extra-index-url", "proxy", "trusted-host", "timeout", *_PATHS}


@dataclass(frozen=True)
class Size:
    """Bytes of an image."""

    own: int
    """Of the layers on top of the base, unpacked."""
    whole: int
    """Of all layers, unpacked."""
    packed: int
    """Of all layers as a registry holds them."""


class Images:
    """A folder of images. `close` after use."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may build images here")
        if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
            pytest.skip(f"not installed: {', '.join(missing)}")
        self.folder = folder
        self._base = ""

    def make_base(self, release: str) -> None:
        """Make the base of Debian `release`; skips the test where the mirror does not give it."""
        archive = self.folder / "base.tar"
        command = [
            *("mmdebstrap", "--quiet", "--variant=essential", f"--include={_PACKAGES}"),
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT),
            "--dpkgopt=force-unsafe-io",
            # Where the image that the Dockerfile names has it.
            '--customize-hook=ln -s ../../bin/python3 "$1/usr/local/bin/python"',
            *(release, str(archive), _MIRROR),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"no base can be made from {_MIRROR}: {made.stderr.strip()[-300:]}")
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(archive), "/")
        self.buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        self._base = f"localhost/python:{release}"
        self.buildah("commit", "--quiet", "--rm", container, self._base)
        archive.unlink()

    def build(self, service: str) -> str:
        """Build the image of `service`; its name."""
        name = f"localhost/aigateway/{service}:test"
        arguments = {"SERVICE": service, "VERSION": VERSION, "REVISION": REVISION, "PYTHON_IMAGE": self._base}
        self.buildah(
            *("build", "--quiet", "--isolation", "chroot", "--file", str(DOCKERFILE), "--tag", name),
            *(f"--volume={source}:{target}:ro" for source, target in self._package_index()),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            str(ROOT),
        )
        return name

    def config(self, image: str) -> dict[str, Any]:
        """What `image` says of how it is run."""
        config: dict[str, Any] = self._inspected(image)["OCIv1"]["config"]
        return config

    def root(self, image: str) -> Path:
        """Where the files of a fresh container of `image` are."""
        return Path(self.buildah("mount", self.buildah("from", "--pull-never", image)))

    def size(self, image: str) -> Size:
        """How large `image` is."""
        archive = self.folder / "image.tar"
        self.buildah("push", "--quiet", image, f"oci-archive:{archive}")
        packed = archive.stat().st_size
        archive.unlink()
        layers = [int(layer["size"]) for layer in json.loads(self._inspected(image)["Manifest"])["layers"]]
        return Size(own=sum(layers[1:]), whole=sum(layers), packed=packed)

    def close(self) -> None:
        """Remove everything."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self.folder)

    def buildah(self, *arguments: str) -> str:
        """What buildah says to `arguments`."""
        place = ("--root", str(self.folder / "store"), "--runroot", str(self.folder / "run"))
        result = subprocess.run(["buildah", *place, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"buildah {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result.stdout.strip()

    def _inspected(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", image))
        return found

    def _package_index(self) -> list[tuple[str, str]]:
        """What to lay over files of a build so that its pip finds packages as this machine's does."""
        pip = [sys.executable, "-m", "pip", "config", "list"]
        listed = subprocess.run(pip, check=True, capture_output=True, text=True).stdout
        options = {}
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            options[name.rpartition(".")[2]] = value.strip("'\"")
        reached = {name: value for name, value in options.items() if name in _INDEX and "file:" not in value}
        written = self.folder / "pip.conf"
        written.write_text("\n".join(("[global]", *(f"{name} = {value}" for name, value in reached.items()))))
        return [(str(written), "/etc/pip.conf"), *((reached[name],) * 2 for name in sorted(_PATHS & set(reached)))]
