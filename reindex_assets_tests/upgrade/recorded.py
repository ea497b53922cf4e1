"""What an earlier version has left behind, as record.py recorded it: files, and the rows of Dagster's tables.

What lives here: reading it, without any code that the tests are about. What does not: tests.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.model import Slice

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())

Row = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """The deployment of one version; its only cluster is `local`.

    Attributes:
        folder: of the fixtures. Nothing may be written there.
        slices: where its slice store is.
    """

    folder: Path
    slices: Path

    @cached_property
    def fleet(self) -> Fleet:
        fleet = load_fleet(self.folder / "fleet.yaml")
        return fleet.model_copy(update={"slices": str(self.slices)})

    @property
    def cluster(self) -> Cluster:
        return self.fleet.clusters["local"]

    @cached_property
    def said(self) -> Row:
        """What its commands and its engines said at the end."""
        said: Row = self._json("said.json")
        return said

    @cached_property
    def names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = self._json("names.json")
        return names

    @cached_property
    def dagster(self) -> dict[str, list[Row]]:
        """The rows of Dagster's tables."""
        tables: dict[str, list[Row]] = {}
        with gzip.open(self.folder / "dagster.jsonl.gz", "rt") as lines:
            for line in map(json.loads, lines):
                tables.setdefault(line["table"], []).append(line["row"])
        return tables

    def cursor(self, sensor: str) -> str:
        """The cursor of a sensor."""
        bodies = [json.loads(row["job_body"]) for row in self.dagster["jobs"]]
        [cursor] = [body["job_specific_data"]["cursor"] for body in bodies if body["origin"]["job_name"] == sensor]
        return str(cursor)

    def stored_slices(self, kind_name: str) -> list[Slice]:
        """The slices that have files."""
        folders = (self.slices / "local" / kind_name).glob("*/*")
        return sorted(Slice.of(f"{folder.parent.name}|{folder.name}") for folder in folders)

    def _json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())
