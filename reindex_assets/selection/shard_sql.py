"""Which ClickHouse rows belong to a group of slices: the predicates and their parameters.

What lives here: the WHERE clauses shared by comparing, writing and reporting. What does not: the same for Postgres
(selection/source_sql.py), and whole statements.
"""

from __future__ import annotations

from reindex_assets.selection.groups import SliceGroup

#: Rows of the group's customers, of any profile, kind and day.
OF_ANY_PROFILE = "customer IN {customers:Array(String)}"

OF_PROFILES = (
    "(NOT has({limited:Array(String)}, customer) OR has({profiles:Array(String)}, concat(customer, '/', profile)))"
)

OF_CUSTOMERS = f"{OF_ANY_PROFILE}\n  AND {OF_PROFILES}"

#: Rows of any kind on the group's days.
ON_DAYS = "day IN {days:Array(Date32)}"

_RANGE = f"template_type = {{template_type:UInt8}} AND {ON_DAYS}"

#: Rows in a slice of the group; `day` is the UTC day of the slice's time.
IN_SLICES = f"{OF_CUSTOMERS}\n  AND {_RANGE}"

#: Rows of the group's customers in any other slice.
ELSEWHERE = f"{OF_CUSTOMERS}\n  AND NOT ({_RANGE})"


def shard_scope(group: SliceGroup) -> dict[str, object]:
    """The parameters of the predicates above, bound by the server."""
    return {
        "customers": list(group.customer_names),
        "limited": list(group.limited_customers),
        "profiles": list(group.limited_profiles),
        "template_type": group.kind.template_type,
        "days": list(group.days),
    }
