"""Refuses to write when the live rows contradict the fleet file's list of shards.

What lives here: the guard for shards that have no layout record yet. What does not: the records (placement/layout.py), and the rule itself
(selection/shard_rule.py).
"""

from __future__ import annotations

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.errors import PlacementError
from reindex_assets.model import Kind
from reindex_assets.selection.shard_rule import shard_expression

#: If a smaller share of the rows is in place, and there are at least this many rows, the fleet file is wrong and not the rows.
_PLACED_SHARE = 0.8
_PLACED_ROWS = 20

_LIVE = "SELECT scorecard_time, false AS is_held FROM {table} WHERE template_type = {{template_type:UInt8}}"

#: A scorecard on the shard of its conversation is in place, however many shards there are. A sample, as there may be many conversations.
_LIVE_CONVERSATIONS = """\
WITH sample AS
(
    SELECT scorecard_time, customer, profile, conversation_id FROM {table}
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
    """Refuses a fleet file when the live rows are where another list of shards would put them. For shards without a record
    (placement/layout.py).

    Raises:
        PlacementError: there are at least 20 rows, and fewer than 80 % of them are on the shard that the fleet file gives them.
    """
    count = len(shards)
    live = (_LIVE_CONVERSATIONS if kind.is_of_conversations else _LIVE).format(table=shards.tables.parent.clickhouse)
    candidates = range(1, 2 * count + 9)
    columns = ", ".join(
        f"countIf(is_held OR {shard_expression(shard_count)} = {{shard:UInt16}}) AS placed_{shard_count}"
        for shard_count in candidates
    )
    counts = shards.map(
        lambda shard: shard.rows(
            f"SELECT count() AS total, {columns} FROM ({live})",
            {"shard": shard.index, "template_type": kind.template_type},
        )[0]
    )

    def total(name: str) -> int:
        return sum(int(str(row[name])) for row in counts)

    rows, placed = total("total"), total(f"placed_{count}")
    if rows < _PLACED_ROWS or placed >= rows * _PLACED_SHARE:
        return
    best = max(candidates, key=lambda shard_count: (total(f"placed_{shard_count}"), -shard_count))
    better = total(f"placed_{best}")
    hint = (
        f"a list of {best} shards would explain {better / rows:.0%} of them"
        if better >= rows * _PLACED_SHARE
        else "the shards may be in another order than before"
    )
    raise PlacementError(
        f"only {placed} of {rows} live {kind.name} scorecards ({placed / rows:.0%}) are where the fleet file's {count} shards "
        f"put them; {hint}. Nothing was written. Correct 'shards' in the fleet file; if the shards really were changed, 'reindex-assets "
        "reshard --from-shards N' moves the rows, where N is the former number of shards (the first N of 'shards' and 'retiring')"
    )
