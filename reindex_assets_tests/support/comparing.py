"""The comparison as tests use it: one call, with connections of its own."""

from __future__ import annotations

from collections.abc import Iterable

from reindex_assets.comparison.comparison import SETTLE_SECONDS, Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import Slice


def compare(dataset: Dataset, slices: Iterable[Slice]) -> list[SliceParity]:
    """Slices by their sums, without a second look."""
    with Comparison(dataset) as comparison:
        return comparison.sums(slices)


def compare_settled(
    dataset: Dataset,
    slices: Iterable[Slice],
    settle_seconds: float = SETTLE_SECONDS,
    samples: int = 10,
) -> list[SliceParity]:
    """Slices by their sums, and where these differ by their rows."""
    with Comparison(dataset) as comparison:
        return comparison.settled(slices, settle_seconds, samples)
