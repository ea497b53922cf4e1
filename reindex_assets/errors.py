"""The errors an operator reads. What lives here: the classes, one for each thing the reader has to do. What does not: any handling.

A message names the customer, day, shard or file, says what to do, and never holds a secret.
"""

from __future__ import annotations

from collections.abc import Collection


class ReindexError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigurationError(ReindexError):
    """The fleet file, the environment or an argument is wrong. Correct it and start again; a retry is useless."""


class TransientError(ReindexError):
    """It may pass by itself: the same work may succeed on another try (retry.py). Every other error stays until somebody acts."""


class UnreachableError(TransientError):
    """An engine did not answer, so nothing is known about its data. Never report this as a mismatch."""


class SourceUnreachableError(UnreachableError):
    """Postgres could not be read."""


class SourceBusyError(SourceUnreachableError):
    """Postgres answers, but every connection that the fleet file allows this project is in use. Nothing is known about its data."""


class LaggingReplicaError(ReindexError):
    """Postgres is a standby too far behind its primary, so nothing is known about the latest rows. Never report this as a mismatch."""


class ShardUnreachableError(UnreachableError):
    """A ClickHouse shard did not answer."""


class UnconfirmedWriteError(ShardUnreachableError):
    """A shard does not show what it has acknowledged: a proxy answers for it, another replica, or it is not done yet."""


class SchemaMismatchError(ReindexError):
    """A ClickHouse table does not have the columns or the engine that this version writes."""


class PlacementError(ReindexError):
    """The live rows are not on the shards where the fleet file places them. Writing would move most of them."""


class LayoutError(PlacementError):
    """The shards' own records contradict the fleet file, or a reshard is moving their rows. Nothing may write until that is resolved.

    Attributes:
        is_moving: a reshard is under way; the error goes away when it ends.
    """

    def __init__(self, message: str, is_moving: bool = False) -> None:
        super().__init__(message)
        self.is_moving = is_moving


class MassDeletionError(ReindexError):
    """Much of what ClickHouse holds is not in Postgres. Nothing was deleted: somebody has to confirm that Postgres is right.

    Attributes:
        slices: those that would lose too much.
    """

    def __init__(self, message: str, slices: Collection[object] = ()) -> None:
        super().__init__(message)
        self.slices = frozenset(slices)


class SliceBusyError(TransientError):
    """Another run holds the slice. Writing now would mix its result with ours."""


class MissingSliceError(ReindexError):
    """A step ran alone, and the step before it left no file for this slice."""
