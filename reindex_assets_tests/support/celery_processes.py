"""Runs on several machines, on this one: a real redis as broker, and Celery workers as processes of their own.

What lives here: starting, killing and ending them, and which worker had a run. What does not: Dagster's own processes
(dagster_processes.py), and tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from celery import Celery
from celery.result import AsyncResult
from dagster import DagsterRun
from redis import Redis
from redis.exceptions import RedisError

from reindex_assets_tests.support.waiting import PATIENCE_SECONDS, until

DAGSTER_YAML = Path(__file__).parents[2] / "deploy" / "celery" / "dagster.yaml"

_TASK_TAG = "dagster-celery/task_id"


def redis_is_missing() -> str | None:
    """What to do about a machine without redis; None where it is there."""
    if shutil.which("redis-server"):
        return None
    return "there is no redis-server here: on Debian, 'apt-get install redis-server', and run this again"


@contextlib.contextmanager
def running_redis(directory: Path) -> Iterator[str]:
    """A redis on a free port that keeps nothing; its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = directory / "redis.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with Redis(port=port) as client:

            def is_up() -> bool:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                return _answers(client)

            until(is_up, lambda: log.read_text(encoding="utf-8"))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def celery_home(directory: Path, url: str) -> dict[str, str]:
    """A DAGSTER_HOME with the dagster.yaml of a Celery deployment: what every process of it has in its environment."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(DAGSTER_YAML, directory / "dagster.yaml")
    return {
        "DAGSTER_HOME": str(directory),
        "DAGSTER_CELERY_BROKER_URL": url,
        "DAGSTER_CELERY_BACKEND_URL": url,
    }


class Workers:
    """Workers by name, each with the processes of its runs in a group of its own."""

    def __init__(self, url: str, log: Path, environment: Mapping[str, str]) -> None:
        self._app = Celery(broker=url, backend=url)
        self._log = log
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, names: Sequence[str]) -> None:
        """Starts workers; they take runs as soon as they are up."""
        for name in names:
            with self._log.with_name(f"{self._log.stem}-{name}.log").open("wb") as output:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "reindex_assets", "worker", "--name", name],
                    env={**os.environ, **self._environment},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def wait(self) -> None:
        """Waits until all of them answer."""

        def all_answer() -> bool:
            assert all(process.poll() is None for process in self._processes.values()), self.logs()
            return set(self._processes) <= self._answering()

        until(all_answer, self.logs)

    def check(self, name: str) -> int:
        """The exit status of the question whether a worker answers, as an orchestrator asks it."""
        return subprocess.run(
            [sys.executable, "-m", "reindex_assets", "worker", "--check", "--name", name],
            env={**os.environ, **self._environment},
            timeout=PATIENCE_SECONDS,
            check=False,
        ).returncode

    def _answering(self) -> set[str]:
        answers = self._app.control.inspect(timeout=0.5).ping() or {}
        return {name.partition("@")[0] for name in answers}

    def of(self, run: DagsterRun) -> str | None:
        """The name of the worker that has, or had, a run; None while the run waits."""
        task = run.tags.get(_TASK_TAG)
        worker = AsyncResult(task, app=self._app).worker if task else None
        return worker.partition("@")[0] if worker else None

    def state(self, run: DagsterRun) -> str:
        """What the broker's side believes of a run."""
        return str(AsyncResult(run.tags[_TASK_TAG], app=self._app).state)

    def kill(self, name: str) -> None:
        """SIGKILL to a worker and to the processes of its runs at once: its machine is gone."""
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_runs_of(self, name: str) -> None:
        """SIGKILL to the processes of a worker's runs alone, as by a kernel that is out of memory."""
        for child in psutil.Process(self._processes[name].pid).children():
            child.kill()

    def logs(self) -> str:
        """The end of what each worker has said."""
        paths = self._log.parent.glob(f"{self._log.stem}-*.log")
        return "\n".join(f"{path.name}:\n{path.read_text(encoding='utf-8')[-2000:]}" for path in paths)

    def end(self) -> None:
        """Ends all of them, as an operator does: by SIGTERM."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()
        self._app.close()


@contextlib.contextmanager
def running_workers(url: str, log: Path, environment: Mapping[str, str], names: Sequence[str]) -> Iterator[Workers]:
    """Workers that have been started (see `wait`); all are ended with the context."""
    workers = Workers(url, log, environment)
    try:
        workers.start(names)
        yield workers
    finally:
        workers.end()
