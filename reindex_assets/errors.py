"""The errors an operator reads. What lives here: the classes, by what the reader must do. What does not: any handling.

A message names the thing (customer, day, shard, file) and the remedy, and never holds a secret.
"""

from __future__ import annotations


class ReindexError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigurationError(ReindexError):
    """The fleet file, the environment or an argument is wrong: correct it, then start again. A retry is useless."""


class SourceUnreachableError(ReindexError):
    """Postgres could not be read: nothing is known about the data. Never to be reported as a mismatch."""


class SourceBusyError(SourceUnreachableError):
    """Postgres is there, but all the connections that the fleet file grants this project are in use. The same holds: nothing is known."""


class LaggingReplicaError(ReindexError):
    """Postgres is a standby too far behind its primary: nothing is known about the latest rows. Never to be reported as a mismatch."""


class ShardUnreachableError(ReindexError):
    """A ClickHouse shard could not be asked: nothing is known about its data. Never to be reported as a mismatch."""


class SchemaMismatchError(ReindexError):
    """A ClickHouse table has another shape than this version writes."""


class PlacementError(ReindexError):
    """The fleet file's shards disagree with where the live rows are: writing would move most of them."""


class LayoutError(PlacementError):
    """The shards' own record says that their rows are placed otherwise than the fleet file has it, or are being moved: nobody may write.

    Attributes:
        is_moving: a reshard is under way, which ends this by itself.
    """

    def __init__(self, message: str, is_moving: bool = False) -> None:
        super().__init__(message)
        self.is_moving = is_moving


class SliceBusyError(ReindexError):
    """Another run holds the slice: its result would be mixed with ours."""


class MissingSliceError(ReindexError):
    """A step was run alone and the step before it has left no file for this slice."""
