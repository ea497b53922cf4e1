"""Evidence that rows have arrived: their number and a sum over their values, made here of what is sent, and by a shard of what it shows.

What lives here: the sums. What does not: what is done without evidence (reindex/writer.py). The exact comparison with Postgres is another
thing (comparison/comparison.py): these sums only tell whether what was sent is what is there. Texts are left out, as they would cost
more than the rest together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.errors import UnconfirmedWriteError
from reindex_assets.model import Column
from reindex_assets.retry import EVIDENCE

_MODULUS = 2**64


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is summed up of some rows.

    Attributes:
        checksum: modulo 2**64.
    """

    rows: int = 0
    checksum: int = 0

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(rows=self.rows + other.rows, checksum=(self.checksum + other.checksum) % _MODULUS)


def evidence_of(rows: pa.RecordBatch, columns: Sequence[Column]) -> Evidence:
    """The evidence of rows that are on their way."""
    checksum = 0
    weight = 1
    for column in columns:
        for numbers in column.type.numbers(rows.column(column.name)):
            checksum += weight * int(numbers.sum(dtype=np.uint64 if numbers.dtype.kind == "u" else np.int64))
            weight += 2
    return Evidence(rows=rows.num_rows, checksum=checksum % _MODULUS)


def expect(
    shard: ShardConnection,
    what: str,
    source: str,
    columns: Sequence[Column],
    sent: Evidence,
    parameters: Mapping[str, object] | None = None,
) -> None:
    """Waits until a shard shows what was sent to it.

    Args:
        what: names the rows for the operator.
        source: what stands after FROM.

    Raises:
        UnconfirmedWriteError: it still doesn't.
    """
    numbers = [number for column in columns for number in column.type.shard_numbers(column.name)]
    terms = [f"ifNull(sum({number}), 0) * {2 * place + 1}" for place, number in enumerate(numbers)]
    sql = f"SELECT count() AS found, {' + '.join(terms) or 0} AS checksum FROM {source}"

    def look() -> None:
        row = shard.row(sql, parameters)
        shown = Evidence(rows=row["found"], checksum=row["checksum"])
        if shown != sent:
            difference = "it shows other values" if shown.rows == sent.rows else f"it shows {shown.rows:,}"
            raise unconfirmed(shard, f"{sent.rows:,} {what}", difference)

    EVIDENCE.call(look)


def unconfirmed(shard: ShardConnection, acknowledged: str, shown: str) -> UnconfirmedWriteError:
    """The error about a shard that does not show what it has acknowledged."""
    return UnconfirmedWriteError(
        f"{shard.label} has acknowledged {acknowledged}, but {shown}. Nothing was deleted on its word. "
        "Is there a proxy, or a replica that lags, behind this address?"
    )
