"""The pytest plugin: a test that leaves something in a pool fails, and is told what it was; others notice nothing."""

import importlib.metadata
import sys
import textwrap

import duly
import pytest
from conftest import until

pytest_plugins = ["pytester"]

HEAD = """
import threading, time
import duly
import pytest

gate = threading.Event()
started = threading.Event()

def stuck():
    started.set()
    gate.wait()
"""


def installed():
    """Whether pytest finds the plugin by itself: the package is installed, not only on the path."""
    points = importlib.metadata.entry_points()
    group = points.select(group="pytest11") if hasattr(points, "select") else points.get("pytest11", ())
    return any(point.value == "duly.pytest_plugin" for point in group)


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs a file of tests; gives pytester's result."""
    # A coverage or a timeout of the outer run is none of the inner one's.
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(text, *arguments, grace=1.0):
        pytester.makepyfile(HEAD + textwrap.dedent(text))
        plugin = [] if installed() else ["-p", "duly.pytest_plugin"]
        options = ["-p", "no:cacheprovider", "-o", f"duly_grace={grace}"]
        return pytester.runpytest_inprocess(*plugin, *options, *arguments)

    return run


def test_the_fixture_gives_a_pool_that_is_shut_down(run):
    run(
        """
    seen = []

    def test_it(duly_pool):
        seen.append(duly_pool)
        assert duly_pool.submit(pow, 2, 10).result() == 1024
        assert duly_pool._workers == 4

    @pytest.mark.duly_pool(workers=1, capacity=7)
    def test_its_options(duly_pool):
        assert seen[0].closed
        assert duly_pool._workers == 1
        with pytest.raises(duly.DeadlineExceeded):
            duly_pool.options(timeout=0.01).submit(gate.wait, 20).result()
        gate.set()
    """,
        grace=20,
    ).assert_outcomes(passed=2)


def test_p09_a_task_left_in_the_fixture_is_named(run):
    result = run("""
    @pytest.mark.duly_pool(workers=1)
    def test_it(duly_pool):
        duly_pool.options(label="the stuck one").submit(stuck)
        duly_pool.options(label="the queued one").submit(int)
        assert started.wait(5)

    def test_the_next_one(duly_pool):
        gate.set()
        assert duly_pool.submit(int).result() == 0
    """)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*pool 'duly_pool': task the stuck one (running for * in duly_pool-0)"])
    result.stdout.fnmatch_lines(["*pool 'duly_pool': task the queued one (queued)"])


LEAVES = """
def test_leaves():
    global pool
    pool = duly.Pool(workers=1, name="forgotten")
    pool.options(label="the stuck one").submit(stuck)
    pool.options(label="the queued one").submit(int)
    assert started.wait(5)

def test_starts_clean():
    gate.set()
    assert pool.closed
"""


def test_p09_nothing_is_checked_unless_it_is_asked_for(run):
    run(LEAVES.replace("assert pool.closed", "pool.shutdown(5)")).assert_outcomes(passed=2)


@pytest.mark.parametrize("how", [("--duly-leaks",), ("-o", "duly_leaks=true")])
def test_p09_a_pool_left_open_is_named_with_its_tasks_and_threads(run, how):
    result = run(LEAVES, *how)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "the test left behind in pools of duly:",
            "  pool 'forgotten' was not shut down; its threads: forgotten-0",
            "  pool 'forgotten': task the stuck one (running for * in forgotten-0)",
            "  pool 'forgotten': task the queued one (queued)",
        ]
    )


def test_p09_an_executor_left_open_is_named(run):
    result = run(
        """
    def test_leaves():
        global executor
        executor = duly.ThreadPoolExecutor(1, "mine")
        assert executor.submit(int).result() == 0
    """,
        "--duly-leaks",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["  pool 'mine' was not shut down; its threads: mine_0"])


def test_p09_a_thread_that_a_shutdown_has_left_is_named(run):
    result = run(
        """
    def test_leaves():
        pool = duly.Pool(workers=1, name="short")
        pool.submit(stuck)
        assert started.wait(5)
        assert pool.shutdown(0).threads_left == 1

    def test_opens():
        gate.set()
    """,
        "--duly-leaks",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["  thread 'short-0', inside a callback"])


def test_p09_a_pool_that_was_dropped_at_work_is_named(run):
    result = run(
        """
    def test_leaves():
        duly.Pool(workers=1, name="dropped").options(label="the stuck one").submit(stuck)
        assert started.wait(5)

    @pytest.mark.duly_leaks(False)
    def test_opens():
        gate.set()
    """,
        "--duly-leaks",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*pool 'dropped' was dropped without a shutdown, and still drains: task the stuck one *"]
    )


def test_p09_pools_of_wider_fixtures_may_stay_but_not_tasks_in_them(run):
    result = run(
        """
    @pytest.fixture(scope="module")
    def shared():
        with duly.Pool(workers=2, name="shared") as pool:
            yield pool
            gate.set()

    def test_uses(shared):
        assert shared.submit(int).result() == 0

    def test_leaves(shared):
        shared.options(label="the stuck one").submit(stuck)
        assert started.wait(5)

    def test_is_not_blamed_for_it_again(shared):
        gate.set()
        assert shared.submit(int).result() == 0
    """,
        "--duly-leaks",
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaves*"])
    result.stdout.fnmatch_lines(["  pool 'shared': task the stuck one (running for * in shared-?)"])


def test_p09_what_is_shut_down_dropped_or_ends_in_time_is_no_leak(run):
    run(
        """
    def test_shuts_down():
        with duly.Pool(workers=2) as pool:
            pool.submit(int)

    def test_drops():
        duly.Pool(workers=2).submit(int).result()

    def test_drops_a_cycle():
        cycle = [duly.Pool(workers=2)]
        cycle.append(cycle)
        cycle[0].submit(int).result()

    @pytest.fixture
    def own():
        pool = duly.Pool(workers=2)
        yield pool
        pool.shutdown(5)

    def test_has_a_fixture(own):
        own.submit(time.sleep, 0.05)

    @pytest.mark.duly_leaks(False)
    def test_is_not_looked_at():
        global pool
        pool = duly.Pool(workers=2)
        pool.submit(int).result()

    def test_that_comes_after():
        pool.submit(int).result()
    """,
        "--duly-leaks",
        grace=20,
    ).assert_outcomes(passed=6)


def test_p09_a_test_that_failed_is_not_blamed_twice(run):
    run(LEAVES.replace("assert started.wait(5)", "assert False"), "--duly-leaks").assert_outcomes(failed=2)
    until(lambda: not duly._duly._draining())


@pytest.mark.skipif(not installed(), reason="this interpreter has the module on its path and not installed")
def test_the_plugin_is_found_by_itself(pytester):
    pytester.makepyfile("def test_it(duly_pool):\n    assert duly_pool.submit(int).result() == 0\n")
    done = pytester.run(sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers")
    done.assert_outcomes(passed=1)
