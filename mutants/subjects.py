"""What is mutated: the modules on which a verdict or a deletion depends, each with the tests that have to notice.

What lives here: the table. What does not: which faults (operators.py), and running the tests (campaign.py).
"""

from __future__ import annotations

#: By module of reindex_assets: files of reindex_assets_tests, the quickest to notice first. The golden files aren't among them: they notice
#: every change of a statement, and say nothing of whether it matters.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "selection/row_digest": ("comparison/test_parity_details.py", "comparison/test_differences.py"),
    "comparison/parity": (
        "comparison/test_explanations.py",
        "comparison/test_parity_details.py",
        "comparison/test_parity.py",
    ),
    "comparison/counts": ("comparison/test_counts.py",),
    "comparison/count_queries": ("comparison/test_counts.py",),
    "comparison/differences": ("comparison/test_differences.py", "comparison/test_parity_details.py"),
    "comparison/row_queries": ("comparison/test_differences.py", "comparison/test_parity_details.py"),
    "comparison/verification": ("comparison/test_counts.py", "comparison/test_strays.py", "defs/test_run_proofs.py"),
    "comparison/strays": ("comparison/test_strays.py",),
    "comparison/samples": ("comparison/test_parity_details.py", "comparison/test_differences.py"),
    "comparison/gaps": ("comparison/test_gaps.py",),
    "comparison/origin": ("drift/test_origin.py", "drift/test_watch_turns.py"),
    "comparison/checkpoint": ("drift/test_origin.py", "drift/test_unchanged.py"),
    "comparison/comparison": ("comparison/test_differences.py", "comparison/test_counts.py", "drift/test_unchanged.py"),
    "defs/checks/rules": ("defs/test_asset_checks.py", "defs/test_run_proofs.py"),
    "drift/watch": ("drift/test_watch.py", "drift/test_watch_turns.py", "drift/test_touched_conversations.py"),
    "drift/watch_state": ("drift/test_watch_turns.py", "drift/test_watch.py"),
    "drift/unchanged": ("drift/test_rewritten_parts.py", "drift/test_unchanged.py"),
    "drift/checkpoint_store": ("drift/test_unchanged.py", "drift/test_origin.py"),
    "drift/repair_policy": ("drift/test_repair_policy.py", "defs/test_repair_request.py"),
    "reindex/writer": (
        "reindex/test_rows.py",
        "reindex/test_evidence.py",
        "reindex/test_movers.py",
        "reindex/test_newer_wins.py",
        "reindex/test_mass_deletion.py",
        "end_to_end/test_readers.py",
    ),
    "reindex/mass_deletion": ("reindex/test_mass_deletion.py",),
    "clickhouse/difference": (
        "reindex/test_movers.py",
        "reindex/test_newer_wins.py",
        "reindex/test_evidence.py",
        "reindex/test_mass_deletion.py",
    ),
    "clickhouse/deletes": (
        "reindex/test_movers.py",
        "reindex/test_newer_wins.py",
        "reindex/test_evidence.py",
        "end_to_end/test_invariants.py",
    ),
    "clickhouse/evidence": ("clickhouse/test_evidence.py", "reindex/test_evidence.py"),
    "clickhouse/staging": ("reindex/test_movers.py", "reindex/test_evidence.py"),
    "clickhouse/parts": ("clickhouse/test_parts.py", "drift/test_marks.py"),
    "clickhouse/canary": ("clickhouse/test_canary.py",),
    "postgres/row_versions": ("postgres/test_row_versions.py", "drift/test_watch_turns.py", "drift/test_origin.py"),
}

#: By package: what is run besides if those notice nothing.
WHOLE_PACKAGE: dict[str, tuple[str, ...]] = {
    "selection": ("comparison",),
    "comparison": ("comparison",),
    "drift": ("drift",),
    "reindex": ("reindex",),
    "clickhouse": ("clickhouse", "reindex"),
    "postgres": ("postgres/test_row_versions.py", "drift"),
    "defs": ("defs/test_asset_checks.py", "defs/test_assets.py"),
}
