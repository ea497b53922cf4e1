"""What holds for every statement on a shard, whatever its server, its users or their profiles set: each setting with its reason.

What lives here: the settings, and how a new connection learns which of them its server knows. What does not: limits of resources
(memory, time, rows to read): those are the operator's, and end in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from reindex_assets.clickhouse.answers import read_rows
from reindex_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from clickhouse_connect.driver.httpclient import HttpClient

#: These could falsify the list of the settings itself, so they are set before it is read. Every server that we support knows them.
_FIRST: Mapping[str, object] = {
    # At a limit (max_rows_to_read, max_execution_time, ...) others than "throw" answer with less, and no error: rows would be taken for
    # gone. Limits themselves are left as they are.
    "distinct_overflow_mode": "throw",
    "group_by_overflow_mode": "throw",
    "join_overflow_mode": "throw",
    "read_overflow_mode": "throw",
    "read_overflow_mode_leaf": "throw",
    "result_overflow_mode": "throw",
    "set_overflow_mode": "throw",
    "sort_overflow_mode": "throw",
    "timeout_overflow_mode": "throw",
    "transfer_overflow_mode": "throw",
    # What leaves rows out of every answer, or of a table.
    "limit": 0,
    "offset": 0,
    "additional_result_filter": "",
    "additional_table_filters": "{}",
    # The names of the settings are text. The driver asks for that only where it has read this setting's line itself.
    "output_format_arrow_string_as_string": 1,
}

SETTINGS: Mapping[str, object] = {
    **_FIRST,
    "timeout_overflow_mode_leaf": "throw",
    "page": 0,
    "filter": "",
    "partial_result_on_first_cancel": 0,
    # Rows of the newest parts that are not in a cache yet.
    "ignore_cold_parts_seconds": 0,
    # We count rows as they are, superseded ones too, and deleted ones never.
    "final": 0,
    "apply_deleted_mask": 1,
    "apply_patch_parts": 1,
    # A delete that is under way is no evidence.
    "apply_mutations_on_fly": 0,
    # Answers of a while ago, and of replicas that were not asked to catch up.
    "use_query_cache": 0,
    "enable_parallel_replicas": 0,
    "allow_experimental_parallel_reading_from_replicas": 0,
    "max_parallel_replicas": 1,
    "parallel_replicas_count": 0,
    "parallel_replica_offset": 0,
    # A replica that lacks what a quorum has acknowledged says so; a server with shared storage asks for the latest parts.
    "select_sequential_consistency": 1,
    # What a statement means: NULLs, joins, unions, names, constraints that are taken on trust.
    "compatibility": "",
    "dialect": "clickhouse",
    "select": "",
    "order": "",
    "sort": "",
    "implicit_table_at_top_level": "",
    "implicit_transaction": 0,
    "data_type_default_nullable": 0,
    "aggregate_functions_null_for_empty": 0,
    "empty_result_for_aggregation_by_empty_set": 0,
    "group_by_use_nulls": 0,
    "join_use_nulls": 0,
    "transform_null_in": 0,
    "cast_keep_nullable": 0,
    "least_greatest_legacy_null_behavior": 0,
    "join_default_strictness": "ALL",
    "any_join_distinct_right_table_keys": 0,
    "union_default_mode": "",
    "prefer_column_name_to_alias": 0,
    "count_distinct_implementation": "uniqExact",
    "optimize_using_constraints": 0,
    "optimize_append_index": 0,
    "optimize_substitute_columns": 0,
    # How values turn into text (digests are of text), and into what we read. Times are UTC.
    "session_timezone": "UTC",
    "bool_true_representation": "true",
    "bool_false_representation": "false",
    "date_time_output_format": "simple",
    "date_time_overflow_behavior": "ignore",
    "enable_extended_results_for_datetime_functions": 0,
    "output_format_float_precision": 0,
    "output_format_always_write_decimal_point_in_float_and_decimal": 0,
    "output_format_decimal_trailing_zeros": 0,
    "output_format_trim_fixed_string": 0,
    "enable_named_columns_in_function_tuple": 0,
    "format": "",
    "input_format": "",
    "output_format": "",
    "framing_output_format": "None",
    "compression": "",
    "extremes": 0,
    "low_cardinality_allow_in_native_format": 1,
    "output_format_native_encode_types_in_binary_format": 0,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_date_as_uint16": 0,
    # On by default since 26.2: an insert would be acknowledged later, out of our order, and batched with strangers' rows.
    "async_insert": 0,
    # An upload that breaks off would be taken for a shorter one.
    "input_format_connection_handling": 0,
    "input_format_force_null_for_omitted_fields": 0,
    # On by default: the rows of an insert would be merged before they are written, for keys that stand in it twice. Ours never do.
    "optimize_on_insert": 0,
    # Block deduplication would swallow the re-insert of rows that were deleted, in silence. Its settings changed their names:
    # `insert_deduplicate = 0` has no effect any more where `deduplicate_insert` exists (measured on engine 26.9).
    "insert_deduplicate": 0,
    "insert_deduplication_token": "",
    "deduplicate_insert": "disable",
    "deduplicate_insert_select": "disable",
    # A delete has happened when the statement returns, on every replica; and it is one that every server since 23.3 knows.
    "mutations_sync": 2,
    "lightweight_deletes_sync": 2,
    "lightweight_delete_mode": "alter_update",
    "enable_lightweight_delete": 1,
    "allow_experimental_lightweight_delete": 1,
    # At 0 a statement never ends.
    "interactive_delay": 100_000,
    # Staging tables have the columns of the live ones, which somebody may have created with these.
    "allow_suspicious_low_cardinality_types": 1,
    "allow_suspicious_fixed_string_types": 1,
    # A staging table that is there already is no empty one; and one that was dropped is gone.
    "create_if_not_exists": 0,
    "ignore_drop_queries_probability": 0,
    # A group of slices spans at most as many months as it has days; the default of 100 guards against an accident of another kind.
    "max_partitions_per_insert_block": 1000,
    # Deletes name their rows; see deletes.KEYS_PER_DELETE for the size.
    "max_query_size": 4 * 1024 * 1024,
    "max_ast_elements": 1_000_000,
    "max_expanded_ast_elements": 1_000_000,
}

#: Of Replicated tables only. Waiting for all replicas (2) fails as soon as one of them is away (error 341), when the others are there to
#: go on: this one has deleted when the statement returns, and every other one has before it is read.
REPLICATED_SETTINGS: Mapping[str, object] = MappingProxyType({"mutations_sync": 1, "lightweight_deletes_sync": 1})


def pin_settings(client: Client, label: str, comment: str, replicated: bool) -> None:
    """Makes a new client send every setting that its server knows with each statement.

    Args:
        label: of the shard, for the operator.
        comment: of each statement, for those who find it in the query log.

    Raises:
        ConfigurationError: the server doesn't show all of its settings, so something hides rows of its tables.
        ClickHouseError: it doesn't allow one of them (errors 164 and 452).
    """
    wanted = {**SETTINGS, **(REPLICATED_SETTINGS if replicated else {}), "log_comment": comment}
    # Not by `set_client_setting`: it goes by a list of settings that the client has read without these.
    sent = cast("HttpClient", client).params
    sent.update({name: str(value) for name, value in _FIRST.items()})
    known = {
        row["name"]
        for row in read_rows(
            client, "SELECT name FROM system.settings WHERE name IN {names:Array(String)}", {"names": list(wanted)}
        )
    }
    if not known.issuperset(_FIRST):
        raise ConfigurationError(
            f"{label} doesn't show its settings {', '.join(sorted(set(_FIRST) - known))} in system.settings, which every server has: a "
            "filter in the settings profile or a row policy of the user hides rows. Remove it: what it hides would be taken for missing"
        )
    sent.update({name: str(value) for name, value in wanted.items() if name in known})
