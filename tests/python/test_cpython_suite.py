"""The drop-in against the tests that CPython has for its own executors.

Keeps true: the tests are the interpreter's own, imported from where it was installed, and none is copied. Some
interpreters were installed without them: then there is nothing to run.
"""

import importlib.util
import json
import subprocess
import sys

import pytest

RUNNER = r"""
import contextlib, json, os, re, sys, types, unittest
import concurrent.futures
import duly

from test import support

# What the tests take for a regression run's options.
support.verbose = 0
support.requires_resource = lambda resource: lambda test: test

names = ("util", "executor", "test_thread_pool", "test_shutdown", "test_wait", "test_as_completed", "test_init",
         "test_future")
suite = __import__("test.test_concurrent_futures", fromlist=["*"])
if hasattr(suite, "__path__"):
    import importlib
    parts = {name: importlib.import_module("test.test_concurrent_futures." + name) for name in names}
else:
    parts = dict.fromkeys(names, suite)


class Futures(types.ModuleType):
    # concurrent.futures as the tests see it: with our executor.
    ThreadPoolExecutor = duly.ThreadPoolExecutor

    def __getattr__(self, name):
        return getattr(concurrent.futures, name)


futures = Futures("concurrent.futures")
# Scripts of tests import the executor by name, isolated from this environment.
FIRST = f"import sys; sys.path[:0] = {sys.path!r}; from duly import ThreadPoolExecutor"
for part in set(parts.values()):
    if hasattr(part, "futures"):
        part.futures = futures
    if hasattr(part, "assert_python_ok"):
        def in_script(*args, original=part.assert_python_ok, **options):
            line = "from concurrent.futures import ThreadPoolExecutor"
            return original(*(arg.replace(line, f"exec({FIRST!r})") for arg in args), **options)
        part.assert_python_ok = in_script


class Ours(parts["util"].ThreadPoolMixin):
    executor_type = duly.ThreadPoolExecutor


def tests(name, *bases):
    # The mixins that set options up come before the one that makes the executor.
    return type(name, bases, {"executor_type": duly.ThreadPoolExecutor})


base = parts["util"].BaseTestCase
classes = [
    tests("ThreadPoolExecutor", Ours, parts["test_thread_pool"].ThreadPoolExecutorTest),
    tests("ThreadPoolWait", Ours, parts["test_wait"].ThreadPoolWaitTests),
    tests("ThreadPoolAsCompleted", parts["test_as_completed"].AsCompletedTests, Ours, base),
    tests("ThreadPoolShutdown", Ours, parts["test_shutdown"].ThreadPoolShutdownTest),
    tests("Initializer", parts["test_init"].InitializerMixin, Ours, base),
    tests("FailingInitializer", parts["test_init"].FailingInitializerMixin, Ours, base),
]

# Tests of the future itself, whose examples are made by the module.
util, test_future = parts["util"], parts["test_future"]
util.Future = test_future.Future = duly.Future
for name, options in {
    "PENDING_FUTURE": {"state": "PENDING"},
    "RUNNING_FUTURE": {"state": "RUNNING"},
    "CANCELLED_FUTURE": {"state": "CANCELLED"},
    "CANCELLED_AND_NOTIFIED_FUTURE": {"state": "CANCELLED_AND_NOTIFIED"},
    "EXCEPTION_FUTURE": {"state": "FINISHED", "exception": OSError()},
    "SUCCESSFUL_FUTURE": {"state": "FINISHED", "result": 42},
}.items():
    setattr(test_future, name, util.create_future(**options))
classes.append(type("Future", (test_future.FutureTests,), {}))

# These expect that a callback has begun by the next line, or that a short sleep is not over: likely and no more.
CHANCES = (
    "test_cancel_futures_wait_false",
    "test_first_completed",
    "test_first_completed_some_already_completed",
    "test_first_exception",
    "test_first_exception_one_already_failed",
    "test_first_exception_some_already_complete",
    "test_future_times_out",
    "test_timeout",
)


def tried_again(test):
    def tried(self):
        for _ in range(4):
            try:
                return test(self)
            except AssertionError:
                pass
        return test(self)
    return tried


for one in classes:
    # A subtest would keep the failure of what is tried again.
    one.subTest = lambda self, *args, **kwargs: contextlib.nullcontext()
    for name in CHANCES:
        if hasattr(one, name):
            setattr(one, name, tried_again(getattr(one, name)))

load = unittest.defaultTestLoader.loadTestsFromTestCase
run = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(load(one) for one in classes))
print(json.dumps({"run": run.testsRun, "skipped": len(run.skipped), "passed": run.wasSuccessful()}))
"""

INSTALLED = importlib.util.find_spec("test") and importlib.util.find_spec("test.test_concurrent_futures")


@pytest.mark.timeout(300)
@pytest.mark.skipif(not INSTALLED, reason="SKIPPED: this interpreter was installed without CPython's tests")
def test_p01_cpythons_own_tests_pass_with_the_drop_in():
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", RUNNER],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.strip(), done.returncode
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["passed"], done.stdout
    assert result["run"] - result["skipped"] >= 60, done.stdout
