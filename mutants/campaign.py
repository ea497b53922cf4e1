"""Tries mutants: puts one fault into a copy of the tree, runs the tests of its module, and keeps what came of it.

What lives here: choosing mutants, trying them, and the file of results, from which an interrupted campaign goes on. What does not: the
faults (operators.py), modules and tests (subjects.py), and the command (__main__.py).
"""

from __future__ import annotations

import ast
import compileall
import json
import os
import py_compile
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome

from mutants.operators import OF_COSMIC_RAY, Faults
from mutants.subjects import SUBJECTS, WHOLE_PACKAGE

ROOT = Path(__file__).parents[1]
#: Of all tests of a module. A mutant that waits for ever is killed.
TIMEOUT_SECONDS = 900

cosmic_ray.plugins.OPERATOR_PROVIDERS["ours"] = Faults()


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A fault at a place, by which it is found again."""

    module: str
    operator: str
    occurrence: int
    line: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of a mutant.

    Attributes:
        outcome: survived, killed, or incompetent (the tests could not begin).
        killer: the first test that failed.
        change: the lines that differ.
    """

    mutant: Mutant
    outcome: str
    killer: str
    change: str


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module, at most one for each operator's place in its code."""
    path = ROOT / "reindex_assets" / f"{module}.py"
    ignored = _without_effect(path.read_text())
    found: dict[tuple[object, ...], list[Mutant]] = {}
    for work in _all_work_items([path], {}):
        [mutation] = work.mutations
        if not (mutation.operator_name.startswith("ours/") or OF_COSMIC_RAY.fullmatch(mutation.operator_name)):
            continue
        if any(first <= mutation.start_pos <= last for first, last in ignored):
            continue
        mutant = Mutant(
            module=module,
            operator=mutation.operator_name,
            occurrence=mutation.occurrence,
            line=mutation.start_pos[0],
        )
        family = mutation.operator_name.partition("_")[0]
        found.setdefault((family, mutation.start_pos, mutation.end_pos), []).append(mutant)
    chooser = random.Random(module)
    return [chooser.choice(same_place) for same_place in found.values()]


def _without_effect(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where code begins and ends that tests need not notice: annotations, which are never evaluated, decorators, which say that values are
    frozen or cached, and `strict=True`, which only guards against what can't be."""

    def spans() -> Iterator[ast.expr | ast.keyword | None]:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign | ast.arg):
                yield node.annotation
            elif isinstance(node, ast.FunctionDef):
                yield node.returns
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield from node.decorator_list
            if isinstance(node, ast.keyword) and node.arg == "strict":
                yield node

    return [
        ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0))
        for node in spans()
        if node is not None
    ]


def chosen(modules: Sequence[str], of_each: int, seed: int) -> list[Mutant]:
    """A sample of the mutants of some modules, the same for the same seed."""
    chooser = random.Random(seed)
    sample: list[Mutant] = []
    for module in modules:
        every = mutants_of(module)
        sample += sorted(
            chooser.sample(every, min(of_each, len(every))), key=lambda mutant: (mutant.line, mutant.operator)
        )
    return sample


def tried(results: Path) -> list[Trial]:
    """The trials in a file of results, which need not exist."""
    if not results.exists():
        return []
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return [Trial(**{**line, "mutant": Mutant(**line["mutant"])}) for line in lines]


def try_all(mutants: Sequence[Mutant], results: Path, copies: Path, workers: int) -> Iterator[Trial]:
    """Tries what the file of results lacks, each worker in a copy of the tree of its own."""
    known = {trial.mutant for trial in tried(results)}
    open_mutants = [mutant for mutant in mutants if mutant not in known]
    with ProcessPoolExecutor(workers, initializer=_copy_tree, initargs=(copies,)) as pool, results.open("a") as file:
        for done in as_completed([pool.submit(_try, mutant) for mutant in open_mutants]):
            trial = done.result()
            file.write(json.dumps(asdict(trial)) + "\n")
            file.flush()
            yield trial


def _copy_tree(copies: Path) -> None:
    """Makes the copy in which this process works; the tree of whoever calls is never touched."""
    copy = copies / str(os.getpid())
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "results"))
    # Compiled once; what doesn't fit its compiled file, as a mutant, is compiled anew.
    compileall.compile_dir(copy, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)


def _command(tests: Sequence[str]) -> str:
    paths = " ".join(f"reindex_assets_tests/{test}" for test in tests)
    return f"{sys.executable} -m pytest -n0 -x -q -p no:cacheprovider --assert plain --timeout 300 {paths}"


def _expect_passing(module: str) -> None:
    """Tests that fail without a fault would kill every mutant. Each module's are tried once, whichever worker comes first."""
    passed = Path.cwd().parent / f"{module.replace('/', '.')}.passed"
    if not passed.exists():
        outcome, output = run_tests(_command(SUBJECTS[module]), TIMEOUT_SECONDS)
        if outcome is not TestOutcome.SURVIVED:
            raise RuntimeError(f"the tests of {module} fail without a fault: {output[-3000:]}")
        passed.touch()


def _try(mutant: Mutant) -> Trial:
    mutation = MutationSpec(
        module_path=Path(f"reindex_assets/{mutant.module}.py"),
        operator_name=mutant.operator,
        occurrence=mutant.occurrence,
        start_pos=(mutant.line, 0),
        end_pos=(mutant.line, 1),
    )
    _expect_passing(mutant.module)
    for tests in (SUBJECTS[mutant.module], WHOLE_PACKAGE[mutant.module.partition("/")[0]]):
        result = mutate_and_test([mutation], _command(tests), TIMEOUT_SECONDS)
        if result.is_killed:
            break
    output = result.output or ""
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    outcome = result.test_outcome or TestOutcome.INCOMPETENT
    # A module that can't be imported, an engine that doesn't start: nothing has been tested.
    if result.worker_outcome is not WorkerOutcome.NORMAL:
        outcome, failed = TestOutcome.INCOMPETENT, [output[-300:]]
    change = [line for line in (result.diff or "").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    killer = failed[0] if failed else output[-300:] if outcome is TestOutcome.KILLED else ""
    return Trial(mutant=mutant, outcome=outcome.value, killer=killer, change="\n".join(change))
