"""Envoy's start and end: files that it takes up, certificates that change, a parent that is gone, an orderly leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
from support.envoy import FOLDER, Envoy, free_port, program, until

