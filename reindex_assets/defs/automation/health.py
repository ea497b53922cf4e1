"""The assets `health`: one for each cluster and kind, and one for the fleet, red exactly when something is wrong there.

What lives here: the assets, their check, and the sensor that refreshes them. What does not: what is wrong
(defs/automation/open_problems.py), and telling people (defs/automation/alert_sensor.py).

Dagster colours an asset by the latest result of each check, of whatever partition. So shard_writes looks green after any good day, and red
after any bad one. These assets have no partitions: their colour is that of all customers and days together.
"""

# Without `from __future__ import annotations`: Dagster reads the types of a check's context from the annotations themselves.
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetMaterialization,
    AssetSpec,
    DefaultSensorStatus,
    MetadataValue,
    RepositoryDefinition,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    TableColumn,
    TableRecord,
    TableSchema,
    multi_asset_check,
    sensor,
)

from reindex_assets.alerts.message import Group, counted, grouped, one_line
from reindex_assets.alerts.problems import Problem, ProblemKind, Severity
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.automation.open_problems import NO_DAEMON, OpenProblem, OpenProblems, open_problems
from reindex_assets.defs.checks.rules import Metadata
from reindex_assets.defs.keys.names import (
    FLEET_HEALTH,
    HEALTH_CHECK,
    OWNERS,
    asset_key,
    checks_job_name,
    group_name,
    health_key,
    repair_sensor_name,
)
from reindex_assets.model import Step

SENSOR_NAME = "health"
_DESCRIPTION = (
    "What is wrong {where} now: red checks of any customer and day, drift under repair, repairs that were given up, and sensors or "
    "schedules that fail. The check is red as long as something is; yellow if there are only warnings, or if nobody looks. The sensor "
    "`health` refreshes it within a minute. `reindex-assets problems` prints the same."
)
_CHECK_DESCRIPTION = (
    "Nothing is wrong with any customer and day, as far as checks, sensors and runs have found. No engine is asked. Red: the table says "
    "what, since when, and what is being done. Yellow: only warnings, or nobody looks for drift."
)
#: An unchanged state is stored again after so many seconds: the plots go on, and one sees that somebody still looks.
_REPEAT_SECONDS = 3_600
#: Red checks whose history a tick reads: three questions each, and Dagster ends a tick after 60 s.
_MOST_DETAILS = 300
#: Groups of days in the table, and in the check's own words.
_LISTED, _NAMED = 100, 5
#: What was stored of a state: its digest, when (epoch seconds), and whether it had a colour.
Told = tuple[str, float, bool]
_TABLE = TableSchema(columns=[TableColumn(name) for name in ("where", "differs", "repair", "since", "checks")])


@dataclass(frozen=True, kw_only=True)
class Health:
    """What is wrong in a dataset, or in the fleet."""

    asset: AssetKey
    problems: tuple[OpenProblem, ...]
    #: Why more may be wrong than is known.
    doubts: tuple[str, ...]
    #: Whether it has a colour: a kind that the fleet's mode leaves out, and at which nobody looks, has none as long as nothing is wrong.
    is_judged: bool

    @property
    def passed(self) -> bool:
        return not self.problems and not self.doubts

    @property
    def severity(self) -> AssetCheckSeverity:
        wrong = any(problem.severity is Severity.ERROR for problem in self.problems)
        return AssetCheckSeverity.ERROR if wrong or self.passed else AssetCheckSeverity.WARN

    @property
    def digest(self) -> str:
        """Of everything that an operator would call news."""
        state = [(str(of.problem), of.severity, of.what, of.repair) for of in self.problems]
        return hashlib.sha256(json.dumps([state, self.doubts]).encode()).hexdigest()[:16]

    @property
    def sentence(self) -> str:
        if self.passed:
            return "Nothing is wrong, as far as checks, sensors and runs have found."
        by_problem = {of.problem: of for of in self.problems}
        parts = [counted(of.severity for of in self.problems) or "Nothing is known to be wrong"]
        groups = grouped(by_problem)
        for group in groups[:_NAMED]:
            latest = by_problem[group.problems[-1]]
            what = _differs(latest) or latest.problem.check
            repair = _repair(group, by_problem)
            parts.append(f"{self._where(group)}: {what}" + (f" ({repair})" if repair else ""))
        if len(groups) > _NAMED:
            parts.append(f"and {len(groups) - _NAMED:,} more")
        return "; ".join([*parts, *(doubt.rstrip(".") for doubt in self.doubts)]) + "."

    @property
    def metadata(self) -> dict[str, Metadata]:
        slices = {of.problem.slice for of in self.problems if of.problem.slice}
        errors = sum(of.severity is Severity.ERROR for of in self.problems)
        oldest = min((of.since for of in self.problems), default=None)
        numbers: dict[str, Metadata] = {
            "problems": errors,
            "warnings": len(self.problems) - errors,
            "customer_days": len(slices),
            "given_up": sum(of.problem.kind is ProblemKind.GIVEN_UP for of in self.problems),
            "under_repair": sum(of.is_under_way for of in self.problems),
            "oldest_hours": round((time.time() - oldest) / 3_600, 2) if oldest else 0.0,
        }
        return {**({"open": MetadataValue.table(self._records(), _TABLE)} if self.problems else {}), **numbers}

    def _records(self) -> list[TableRecord]:
        by_problem = {of.problem: of for of in self.problems}
        records = []
        for group in grouped(by_problem)[:_LISTED]:
            latest = by_problem[group.problems[-1]]
            since = datetime.fromtimestamp(min(by_problem[problem].since for problem in group.problems), UTC)
            columns = {
                "where": self._where(group),
                "differs": _differs(latest),
                "repair": _repair(group, by_problem),
                "since": f"{since:%Y-%m-%d %H:%M} UTC",
                "checks": ", ".join(filter(None, group.checks)) or latest.problem.kind.value,
            }
            records.append(TableRecord(columns))
        return records

    def _where(self, group: Group) -> str:
        """The customer and days; the asset, too, where there are several."""
        if group.problems[0].of_automation:
            return group.asset
        return group.title if self.asset == FLEET_HEALTH else group.title.removeprefix(f"{group.asset}: ")


def _differs(of: OpenProblem) -> str:
    """What a check says begins with the customer and day, which stand beside it."""
    return one_line(of.what.removeprefix(f"{of.problem.slice}: ")).rstrip(".")


def _repair(group: Group, by_problem: Mapping[Problem, OpenProblem]) -> str:
    """What is being done about the days of a group, which may differ."""
    return "; ".join(dict.fromkeys(filter(None, (by_problem[problem].repair for problem in group.problems))))


def healths(fleet: Fleet, found: OpenProblems) -> list[Health]:
    """The health of every dataset, and of the fleet."""
    no_daemon = [] if found.has_daemon else [NO_DAEMON]
    result = []
    for of in found.watched:
        where = _places(of.dataset)
        mine = tuple(problem for problem in found.problems if problem.problem.where in where)
        doubts = (*no_daemon, *([] if of.is_looked_at else [of.note]))
        is_judged = bool(mine) or of.is_wanted or of.is_looked_at
        result.append(Health(asset=_key(of.dataset), problems=mine, doubts=doubts, is_judged=is_judged))
    notes = [of.note for of in found.watched if of.is_wanted and not of.is_looked_at]
    return [
        *result,
        Health(asset=FLEET_HEALTH, problems=found.problems, doubts=(*no_daemon, *notes), is_judged=True),
    ]


def build_health_assets(fleet: Fleet) -> list[AssetSpec]:
    """The assets. No run materializes them: the sensor stores what it sees."""
    return [
        *(
            AssetSpec(
                _key(dataset),
                deps=[asset_key(dataset, Step.WRITE)],
                description=_DESCRIPTION.format(where=f"in {dataset}"),
                group_name=group_name(dataset),
                owners=OWNERS,
                tags={"cluster": dataset.cluster_name, "kind": dataset.kind.name},
            )
            for dataset in fleet.datasets()
        ),
        AssetSpec(
            FLEET_HEALTH,
            deps=[_key(dataset) for dataset in fleet.datasets()],
            description=_DESCRIPTION.format(where="in the fleet"),
            group_name="fleet",
            owners=OWNERS,
        ),
    ]


def build_health_checks(fleet: Fleet, repository: Callable[[], RepositoryDefinition]) -> AssetChecksDefinition:
    """The check of every health asset, to be executed at any time.

    Args:
        repository: the definitions of which the check is a part; asked for when it is executed.
    """
    keys = [*(_key(dataset) for dataset in fleet.datasets()), FLEET_HEALTH]

    @multi_asset_check(
        name="look_at_health",
        specs=[AssetCheckSpec(HEALTH_CHECK, asset=key, description=_CHECK_DESCRIPTION) for key in keys],
        can_subset=True,
    )
    def look_at_health(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        found = open_problems(context.instance, fleet, repository())
        asked = {key.asset_key for key in context.selected_asset_check_keys}
        for health in healths(fleet, found):
            if health.asset in asked:
                yield AssetCheckResult(
                    asset_key=health.asset,
                    check_name=HEALTH_CHECK,
                    passed=health.passed,
                    severity=health.severity,
                    description=health.sentence,
                    metadata=health.metadata,
                )

    return look_at_health


def build_health_sensor(fleet: Fleet) -> SensorDefinition:
    """The sensor that refreshes the health assets. On from the start: it only stores what it has seen."""

    @sensor(
        name=SENSOR_NAME,
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Keeps the assets `health` true: stores what is wrong, in each cluster and kind and in the fleet, whenever that has changed, "
            "and every hour. Asks no engine and starts no runs."
        ),
    )
    def health(context: SensorEvaluationContext) -> SensorResult:
        assert context.repository_def is not None, "Dagster gives a sensor its repository"
        now = time.time()
        stored = _read_cursor(context.cursor)
        location = context.code_location_origin
        found = open_problems(
            context.instance, fleet, context.repository_def, location.location_name if location else None, _MOST_DETAILS
        )
        states = healths(fleet, found)
        news = {state.asset.to_user_string(): state for state in states if _is_news(state, stored, now)}
        kept = {path: stored[path] for state in states if (path := state.asset.to_user_string()) in stored}
        told = {path: (state.digest, now, state.is_judged) for path, state in news.items()}
        wrong = [state.asset.to_user_string() for state in states if not state.passed and state.is_judged]
        return SensorResult(
            skip_reason=SkipReason(f"not well: {', '.join(wrong)}" if wrong else "all is well"),
            asset_events=[
                event
                for path, state in news.items()
                for event in _events(state, was_judged=path in kept and kept[path][2])
            ],
            cursor=json.dumps({**kept, **told}),
        )

    return health


def _events(state: Health, *, was_judged: bool) -> Sequence[AssetMaterialization | AssetCheckEvaluation]:
    seen = AssetMaterialization(state.asset, description=state.sentence, metadata=state.metadata)
    # What was red must not stay red because nobody looks any more.
    if not state.is_judged and not was_judged:
        return [seen]
    judged = AssetCheckEvaluation(
        asset_key=state.asset,
        check_name=HEALTH_CHECK,
        passed=state.passed,
        severity=state.severity,
        description=state.sentence,
        metadata=state.metadata,
    )
    return [seen, judged]


def _is_news(state: Health, stored: Mapping[str, Told], now: float) -> bool:
    digest, at, _ = stored.get(state.asset.to_user_string(), ("", 0.0, False))
    return digest != state.digest or not 0 <= now - at < _REPEAT_SECONDS


def _read_cursor(cursor: str | None) -> dict[str, Told]:
    """When each state was stored. A cursor that can't be read only has everything stored again."""
    try:
        read = json.loads(cursor or "{}").items()
        return {str(path): (str(digest), float(at), bool(judged)) for path, (digest, at, judged) in read}
    except (ValueError, TypeError, AttributeError):
        return {}


def _key(dataset: Dataset) -> AssetKey:
    return health_key(dataset.cluster_name, dataset.kind.name)


def _places(dataset: Dataset) -> set[str]:
    """Where a dataset's problems are: its checks, its sensor and its schedule."""
    return {
        asset_key(dataset, Step.WRITE).to_user_string(),
        f"sensor {repair_sensor_name(dataset)}",
        f"schedule {checks_job_name(dataset)}_daily",
    }
