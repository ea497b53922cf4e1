"""The origin of row versions: what has to be as it was for two readings of them to be comparable.

What lives here: the value, and reading it from Postgres. What does not: row versions themselves (postgres/row_versions.py), and where
origins are kept (comparison/checkpoint.py, drift/watch_state.py).

A row keeps its version (xmin, ctid) while nothing writes to it. But its columns may get other names, other values for rows older than the
column, or other expressions without a new version of any row. And a server that was restored from a copy of its disk gives the same
numbers to other rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from reindex_assets.config.dataset import Dataset
from reindex_assets.model import Table
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.row_digest import shard_digest, source_digest
from reindex_assets.selection.source_sql import relations_of


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where row versions are from.

    Attributes:
        digest: a hash of the server and its start, the definitions of the relations, and everything in the fleet file and in this version
            of the product that decides what the versions stand for.
        profiles: of each customer, by name.
        next_xid: the number of the next transaction: it never gets lower, unless an older state was restored.
    """

    digest: str = ""
    profiles: Mapping[str, str] = field(default_factory=dict)
    next_xid: int = 0

    def customers_of(self, earlier: Origin) -> set[str]:
        """The customers whose row versions of an earlier origin can be compared with those of this one."""
        if earlier.digest != self.digest or earlier.next_xid > self.next_xid:
            return set()
        return {name for name, profiles in earlier.profiles.items() if self.profiles.get(name) == profiles}


#: The relations with their partitions, and of each column all that can change without a new row version: the name of the column that
#: stands at its place, its value in rows that are older than itself, its expression, and the labels of its type.
_DEFINITIONS = """\
WITH RECURSIVE relation AS
(
    SELECT to_regclass(name)::oid AS oid
    FROM unnest(string_to_array($1, ',')) AS name
    UNION
    SELECT child.inhrelid
    FROM relation
    JOIN pg_inherits AS child ON child.inhparent = relation.oid
)
SELECT count(DISTINCT c.oid) FILTER (WHERE c.relkind IN ('r', 'p', 'm')) = count(DISTINCT relation.oid) AS are_tables,
       md5(string_agg(ROW(
           c.oid, c.relkind, a.attnum, a.attname, a.attisdropped, a.atttypid, a.atttypmod, a.attcollation,
           a.attgenerated, a.attmissingval::text, pg_get_expr(d.adbin, d.adrelid), labels.of_type
       )::text, ' ' ORDER BY c.oid, a.attnum)) AS columns,
       pg_postmaster_start_time()::text AS start,
       (SELECT system_identifier::text FROM pg_control_system()) AS system,
       (SELECT timeline_id::text FROM pg_control_checkpoint()) AS timeline,
       txid_snapshot_xmax(txid_current_snapshot())::text AS next_xid
FROM relation
LEFT JOIN pg_class AS c ON c.oid = relation.oid
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN LATERAL
(
    SELECT string_agg(label.enumlabel, ' ' ORDER BY label.enumsortorder) AS of_type
    FROM pg_enum AS label
    WHERE label.enumtypid IN (t.oid, t.typelem, t.typbasetype)
) AS labels ON true"""


def read_origin(session: SourceSession, dataset: Dataset) -> Origin | None:
    """The origin of row versions that are read after it; None where rows have no versions, as a relation is a view or a foreign table.

    Includes the timeline: after a failover that lost transactions, their numbers are given to others.
    """
    postgres, clickhouse = dataset.cluster.postgres, dataset.cluster.clickhouse
    [server] = session.rows(_DEFINITIONS, (",".join(relations_of(postgres.relations, dataset.kind)),))
    if not server["are_tables"]:
        return None
    everything = (
        (server["system"], server["timeline"], server["start"], server["columns"]),
        (postgres.host, postgres.port, postgres.database, postgres.relations),
        (clickhouse.database, [[str(address) for address in shard.addresses] for shard in clickhouse.shards]),
        (dataset.kind, [_what_is_compared(table) for table in dataset.tables]),
    )
    return Origin(
        digest=hashlib.sha256(repr(everything).encode()).hexdigest(),
        profiles={name: repr(customer.profiles) for name, customer in dataset.cluster.customers.items()},
        next_xid=int(server["next_xid"]),
    )


def _what_is_compared(table: Table) -> tuple[str, ...]:
    """Which values, and of which rows."""
    return (source_digest(table), shard_digest(table), *([table.where] if table.where else []))
