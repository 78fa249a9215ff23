"""The pytest plugin: the fixture `duly_pool`, and a check for what a test leaves behind in pools.

Keeps true:
1. Nothing is checked unless it was asked for: by the fixture, by the marker `duly_leaks`, by `--duly-leaks` or by
   `duly_leaks = true` in the configuration. Who has duly installed as a dependency notices nothing.
2. The check comes after the test's own fixtures were torn down, so what they shut down is no leak. Pools made by
   fixtures of a wider scope may stay; tasks left in them may not.
3. What is left gets `duly_grace` seconds (1.0) to go by itself. Pools that a test left open are shut down then, so
   that the next test starts clean, and that names the tasks that were still queued.
4. A test that failed by itself is not blamed a second time.
"""

from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import duly
from duly import _duly, _workers

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Names in the dict of an item: pytest's own place for such things is younger than some that is in use.
_BEFORE, _FAILED = "_duly_before", "_duly_failed"

# The pools that fixtures of a wider scope have made, by their number.
_excused: set[int] = set()

# How often to look whether what is left has gone.
_LOOK = 0.005


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("duly")
    group.addoption(
        "--duly-leaks",
        action="store_true",
        default=False,
        help="after each test, fail if it left tasks, threads or pools of duly behind",
    )
    parser.addini("duly_leaks", "as --duly-leaks, for every run", type="bool", default=False)
    parser.addini("duly_grace", "seconds in which what a test leaves in pools may end by itself", default="1.0")


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    config.addinivalue_line(
        "markers",
        "duly_leaks(check=True): fail if the test leaves tasks, threads or pools of duly behind; False: do not look",
    )
    config.addinivalue_line("markers", "duly_pool(**options): how the fixture duly_pool makes its pool, as duly.Pool")


@pytest.fixture
def duly_pool(request: pytest.FixtureRequest) -> Iterator[duly.Pool]:
    """A `duly.Pool` of four workers, each task with ten seconds, shut down after the test, which fails if it leaves
    tasks in it. Other options by the marker: `@pytest.mark.duly_pool(workers=1, capacity=2)`."""
    options: dict[str, Any] = {"workers": 4, "default_timeout": 10.0, "name": "duly_pool"}
    for marker in reversed(list(request.node.iter_markers("duly_pool"))):
        options.update(marker.kwargs)
    pool = duly.Pool(**options)
    check = _wanted(request.node)
    try:
        yield pool
    finally:
        left: list[str] = []
        if check and _FAILED not in vars(request.node):
            end = time.monotonic() + _grace(request.config)
            while _unended(pool) and time.monotonic() < end:
                time.sleep(_LOOK)
            left = _tasks_of(pool)
        report = pool.shutdown(0.0)
        if left:
            named = _named(report.abandoned, report.stuck)
            pytest.fail(_text([f"pool {pool.name!r}: {what}" for what in named or left]), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Remembers the pools of fixtures that outlive a test."""
    if fixturedef.scope == "function":
        yield
        return
    before = {pool._serial for pool in _duly._pools()}
    yield  # what was made is excused although the fixture has failed
    _excused.update({pool._serial for pool in _duly._pools()} - before)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Looks what is there before the test."""
    if _wanted(item):
        vars(item)[_BEFORE] = _Before()
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    """Remembers that the test failed by itself."""
    outcome = yield
    if outcome.get_result().failed:
        vars(item)[_FAILED] = True


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, None]:
    """Looks what the test, and its fixtures, have left."""
    outcome = yield
    before = vars(item).get(_BEFORE)
    if before is None or outcome.excinfo is not None or _FAILED in vars(item):
        return
    left = before.left(_grace(item.config))
    if left:
        outcome.force_exception(pytest.fail.Exception(_text(left), pytrace=False))


def _wanted(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("duly_leaks")
    if marker is not None:
        return bool(marker.kwargs.get("check", marker.args[0] if marker.args else True))
    config = item.config
    if config.getoption("--duly-leaks") or config.getini("duly_leaks"):
        return True
    return "duly_pool" in getattr(item, "fixturenames", ())


def _grace(config: pytest.Config) -> float:
    return float(config.getini("duly_grace"))


def _text(left: list[str]) -> str:
    return "the test left behind in pools of duly:\n" + "\n".join(f"  {what}" for what in left)


class _Before:
    """What was there before a test."""

    def __init__(self) -> None:
        pools = _duly._pools()
        self.pools = {pool._serial for pool in pools}
        self.threads = set(_workers_alive())
        self.draining = {name for name, _, _ in _duly._draining()}

    def left(self, grace: float) -> list[str]:
        """What is there now and was not, once it had `grace` seconds to go."""
        end = time.monotonic() + grace
        collected = False
        while True:
            if not self.is_anything_left():
                return []
            if not collected:
                # A pool in a cycle is nobody's.
                collected = True
                gc.collect()
            elif time.monotonic() >= end:
                return self.named()
            time.sleep(_LOOK)

    def is_anything_left(self) -> bool:
        pools = _duly._pools()
        mine, others = self.told_apart(pools)
        return (
            any(not pool.closed or _unended(pool) for pool in mine)
            or any(_unended(pool) for pool in others)
            or bool(self.own_threads(others))
            or any(name not in self.draining for name, _, _ in _duly._draining())
        )

    def told_apart(self, pools: list[_duly.Pool]) -> tuple[list[_duly.Pool], list[_duly.Pool]]:
        """The pools that the test has made, and the others."""
        mine = [pool for pool in pools if pool._serial not in self.pools | _excused]
        return mine, [pool for pool in pools if pool._serial in self.pools | _excused]

    def own_threads(self, others: list[_duly.Pool]) -> set[threading.Thread]:
        """The threads that were not there, but for those of other pools, which start theirs when they like."""
        theirs = {thread for pool in others for thread in pool._threads()}
        return set(_workers_alive()) - self.threads - theirs

    def named(self) -> list[str]:
        mine, others = self.told_apart(_duly._pools())
        left = []
        threads = self.own_threads(others)
        for pool in mine:
            if pool.closed and not _unended(pool):
                continue
            own = [thread for thread in pool._threads() if thread in threads]
            threads -= set(own)
            closed = "was closed and not shut down" if pool.closed else "was not shut down"
            names = ", ".join(sorted(thread.name for thread in own))
            left.append(f"pool {pool.name!r} {closed}" + (f"; its threads: {names}" if names else ""))
            report = pool.shutdown(0.0)
            left += [f"pool {pool.name!r}: {what}" for what in _named(report.abandoned, report.stuck)]
        for pool in others:
            left += [f"pool {pool.name!r}: {what}" for what in _tasks_of(pool)]
        for name, queued, running in _duly._draining():
            if name not in self.draining:
                what = [f"task {record}" for record in running] + ([f"{queued} queued tasks"] if queued else [])
                left.append(f"pool {name!r} was dropped without a shutdown, and still drains: {', '.join(what)}")
        left += [f"thread {thread.name!r}, inside a callback" for thread in sorted(threads, key=lambda one: one.name)]
        return left


def _workers_alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread in _workers.started]


def _unended(pool: _duly.Pool) -> bool:
    """Whether a pool has tasks that have not ended, or callbacks that still run although theirs have."""
    stats = pool.stats()
    return stats.queued + stats.running > 0 or bool(pool.leaks())


def _tasks_of(pool: _duly.Pool) -> list[str]:
    """The tasks of a pool that have not ended, as far as they can be named, and callbacks that still run."""
    queued = pool.stats().queued
    return [f"task {record}" for record in pool.running()] + ([f"{queued} queued tasks"] if queued else [])


def _named(*reported: list[duly.TaskRecord]) -> list[str]:
    """The records of a shutdown's report, each once, what still runs first."""
    every = {str(record): record for records in reported for record in records}
    return [f"task {text}" for text, record in sorted(every.items(), key=lambda one: one[1].thread is None)]
