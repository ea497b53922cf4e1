"""Where the ledger of repairs is kept: in the cursor of the repair sensor, which Dagster stores together with what a tick has asked for.

What lives here: the cursor's shape, and reading it from outside the sensor. What does not: the ledger's rules (repairs.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster import DagsterInstance
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData
from pydantic import BaseModel, ConfigDict, ValidationError

from reindex_assets.asset_names import repair_sensor_name
from reindex_assets.model import PROCESS, Kind, Slice
from reindex_assets.repairs import Ledger, Repair


class VerdictsRead(BaseModel):
    """Which verdicts of checks the sensor has read, by their storage ids.

    Attributes:
        until: the last one.
        since: the last one of the tick before: what came after it is read once more.
        red: red ones among those, which have been dealt with.
    """

    model_config = ConfigDict(frozen=True)

    until: int
    since: int
    red: tuple[int, ...] = ()


class RepairCursor(BaseModel):
    """What the repair sensor remembers. Without `verdicts` it begins with the present ones."""

    model_config = ConfigDict(frozen=True)

    ledger: Ledger = Ledger()
    verdicts: VerdictsRead | None = None


def read_cursor(text: str | None) -> RepairCursor:
    """The cursor; an empty one where there is none or it was written by something else."""
    if not text:
        return RepairCursor()
    try:
        return RepairCursor.model_validate_json(text)
    except ValidationError:
        return RepairCursor()


def given_up(instance: DagsterInstance, cluster_name: str, kind: Kind = PROCESS) -> Mapping[Slice, Repair]:
    """The slices whose repair was given up, as the sensor last said."""
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.instigator_name == repair_sensor_name(cluster_name, kind) and isinstance(
            state.instigator_data, SensorInstigatorData
        ):
            return read_cursor(state.instigator_data.cursor).ledger.given_up
    return {}
