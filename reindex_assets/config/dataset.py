"""A dataset: the scorecards of one kind in one cluster, with all their rules.

What lives here: the value, and what follows from it. What does not: the fleet file (config/fleet.py makes the datasets), and anything that
reads data.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from reindex_assets.config.cluster import Cluster, ClusterRules
from reindex_assets.model import Kind, Slice, Tables, days_between


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The scorecards of one kind in one cluster, with their scores. Each dataset is extracted, compared and repaired on its own.

    Attributes:
        cluster_name: the cluster's name in the fleet file.
        first_day: the fleet's first day. A row with an earlier time has no slice.
        slices_root: where the steps hand over Parquet files: a path or a URL that fsspec supports.
        rules: from the fleet file.
    """

    cluster_name: str
    kind: Kind
    cluster: Cluster = field(hash=False, repr=False)
    first_day: date
    slices_root: str
    rules: ClusterRules = field(hash=False, repr=False)

    def __str__(self) -> str:
        return f"{self.cluster_name}, {self.kind.name}"

    @property
    def customers(self) -> list[str]:
        """The names of its customers, in the fleet file's order."""
        return list(self.cluster.customers)

    @property
    def tables(self) -> Tables:
        """ClickHouse's tables."""
        return self.cluster.clickhouse_tables

    @property
    def lock_scope(self) -> str:
        """The scope of the locks on its slices, which every writer takes."""
        return f"{self.cluster_name}/{self.kind.name}"

    def with_connection_wait(self, seconds: int) -> Dataset:
        """This dataset, for a caller that can wait at most `seconds` for a connection to Postgres."""
        postgres = self.cluster.postgres.with_connection_wait(seconds)
        return replace(self, cluster=self.cluster.model_copy(update={"postgres": postgres}))

    def slices(self, first_day: date, last_day: date) -> list[Slice]:
        """Every slice of a range of days, by customer and then by day."""
        return [Slice(customer, day) for customer in self.customers for day in days_between(first_day, last_day)]

    def watched_days(self, today: date) -> tuple[date, date]:
        """The first and last day of the look-back, which ends today."""
        first = today - timedelta(days=self.rules.look_back_days - 1)
        return max(self.first_day, first), max(self.first_day, today)
