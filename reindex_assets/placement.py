"""Placement: on which shard a row stands, written once in each of the three languages, and the guard against a wrong fleet file.

What lives here: the rule, floor(epoch of the slice's time) mod the number of shards, as the real-time writer places it
(`time.Unix() % shard_count`), and the refusal to write where the live rows contradict it. What does not: cutting rows by shard (rows.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reindex_assets.clickhouse import ShardSet
from reindex_assets.errors import PlacementError
from reindex_assets.model import MICROSECONDS, SCORECARD, Kind

_Numbers = np.ndarray[Any, np.dtype[np.int64]]


def shard_numbers(microseconds: _Numbers, shard_count: int) -> _Numbers:
    """The shards of some times. numpy's `//` and `%` floor like Python's, so a time before 1970 has a shard in 0..N-1 too.

    >>> shard_numbers(np.array([-1, 0, 5_999_999]), 4).tolist()
    [3, 0, 1]
    """
    found: _Numbers = microseconds // MICROSECONDS % shard_count
    return found


def shard_expression(shard_count: int) -> str:
    """The shard of a live row in ClickHouse: integer arithmetic, as a float loses microseconds after 2038."""
    microseconds = "toUnixTimestamp64Micro(scorecard_time)"
    seconds = f"intDiv({microseconds} - positiveModulo({microseconds}, 1000000), 1000000)"
    return f"positiveModulo({seconds}, {shard_count})"


def source_shard_expression(shard_count: int) -> str:
    """The shard of a row in Postgres (`{time}` as in selection.py): a cast would round, and `mod` of a negative number is negative."""
    seconds = "floor(extract(epoch FROM {time}))::bigint"
    return f"mod(mod({seconds}, {shard_count}) + {shard_count}, {shard_count})::int"


#: Below this share of rows in their place, and from this many rows on, it is the fleet file that is wrong and not the rows.
_PLACED_SHARE = 0.8
_PLACED_ROWS = 20


_LIVE = f"SELECT scorecard_time, false AS is_held FROM {SCORECARD.name} WHERE template_type = {{template_type:UInt8}}"
#: Beside its conversation a scorecard stands rightly, however many shards there are. A sample: the conversations may be many.
_LIVE_CONVERSATIONS = f"""\
WITH sample AS
(
    SELECT scorecard_time, customer, profile, conversation_id FROM {SCORECARD.name}
    WHERE template_type = {{template_type:UInt8}}
    ORDER BY cityHash64(scorecard_id)
    LIMIT 10000
)
SELECT scorecard_time, (customer, profile, conversation_id) IN
(
    SELECT customer, profile, conversation_id FROM conversation WHERE conversation_id IN (SELECT conversation_id FROM sample)
) AS is_held
FROM sample"""


def check_placement(shards: ShardSet, kind: Kind) -> None:
    """Refuses a fleet file when the live rows stand where another list of shards would put them: for shards without a record (layout.py).

    Raises:
        PlacementError: fewer than 80 % of the rows (of 20 or more) stand on the shard that the fleet file gives them.
    """
    count = len(shards)
    columns = ", ".join(
        f"countIf(is_held OR {shard_expression(other)} = {{shard:UInt16}}) AS placed_{other}"
        for other in range(1, 2 * count + 9)
    )
    found = shards.map(
        lambda shard: shard.rows(
            f"SELECT count() AS total, {columns} FROM ({_LIVE_CONVERSATIONS if kind.is_of_conversations else _LIVE})",
            {"shard": shard.index, "template_type": kind.template_type},
        )[0]
    )

    def total(name: str) -> int:
        return sum(int(str(row[name])) for row in found)

    rows, placed = total("total"), total(f"placed_{count}")
    if rows < _PLACED_ROWS or placed >= rows * _PLACED_SHARE:
        return
    best = max(range(1, 2 * count + 9), key=lambda other: (total(f"placed_{other}"), -other))
    better = total(f"placed_{best}")
    hint = (
        f"a list of {best} shards would explain {better / rows:.0%} of them"
        if better >= rows * _PLACED_SHARE
        else "the shards may stand in another order than before"
    )
    raise PlacementError(
        f"only {placed} of {rows} live {kind.name} scorecards ({placed / rows:.0%}) stand where the fleet file's {count} shards "
        f"put them; {hint}. Nothing was written. Correct 'shards' in the fleet file; if the shards really were changed, 'reindex-assets "
        "reshard --from-shards N' moves the rows, where N is how many there were (the first N of 'shards' and 'retiring')"
    )
