"""The stubs say what the module has, and the package is typed for both checkers. Where they are not installed, they are
not run: the types do not depend on the version of Python that runs this."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="the type checkers are in .venv only"),
    # Two checkers, one of them a program for node: a loaded machine takes its time.
    pytest.mark.timeout(300),
]

# Modules that are their own source have no stubs that could be untrue: mypy checks them.
PRIVATE = "aio|chunks|cli|flight|group|interrupt|map|native|scope|trio|workers"
SOURCES = rf"duly\.(_({PRIVATE})|asgi|executor|joblib|pool|pytest_plugin)\..*"


def run(*command, cwd=ROOT):
    checked = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    return checked.returncode, checked.stdout


def test_p16_the_stubs_are_true(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(SOURCES)
    status, said = run("mypy.stubtest", "duly", "--mypy-config-file", "pyproject.toml", "--allowlist", str(allowed))
    assert status == 0, said


def test_p16_the_package_checks(tmp_path):
    for checker in (("mypy", "--no-incremental"), ("pyright", "--pythonpath", sys.executable, "python/duly")):
        status, said = run(*checker)
        assert status == 0, said


USER = """import asyncio
import concurrent.futures
import duly

def add(a: int, b: int = 0) -> int: return a + b

pool = duly.Pool(4, overflow='reject', on_fork='shut_down')
reveal_type(pool.options(timeout=1).submit(add, 1, b=2).result())
pool.submit(add, 'text')  # wrong
pool.options(tiemout=1)  # wrong
pool.options(overflow='explode')  # wrong
duly.Pool(overflow='explode')  # wrong

@pool.task
def double(a: int) -> int: return 2 * a

reveal_type(double.submit(1).result())
double.submit('text')  # wrong

async def main() -> None:
    reveal_type(await pool.run(add, 1))
    reveal_type(await (await pool.asubmit(add, 1)))
    await pool.run(add, 'text')  # wrong
    async for value in pool.amap(add, [1, 2]):
        reveal_type(value)

reveal_type(next(pool.map(add, [1], [2])))
with duly.CancelScope(timeout=1) as scope:
    scope.cancel('reason')

executor: concurrent.futures.ThreadPoolExecutor = duly.ThreadPoolExecutor(2, capacity=5)
reveal_type(duly.ThreadPoolExecutor(2).submit(add, 1).result())
"""

if importlib.util.find_spec("fastapi"):
    USER += """
import duly.asgi
import fastapi

app = fastapi.FastAPI()
app.add_middleware(duly.asgi.Scoped, timeout=2.0, retry_after=3)
app.add_middleware(duly.asgi.Scoped, timout=2.0)  # wrong
duly.asgi.Scoped(app, timeout="1")  # wrong
"""


def test_p16_what_users_write_is_checked(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    lines = USER.splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    shown = {number for number, line in enumerate(lines, 1) if "reveal_type" in line}

    def numbers(said, word):
        # user.py:12: error: … of mypy, user.py:12:5 - error: … of pyright.
        return {
            int(line.split("user.py:")[1].split(":")[0].split(" ")[0]) for line in said.splitlines() if word in line
        }

    for checker in (("mypy", "--strict", "--no-incremental"), ("pyright", "--pythonpath", sys.executable)):
        _, said = run(*checker, "user.py", cwd=tmp_path)
        assert numbers(said, "error:") == wrong, said
        assert {number for number in shown if f"user.py:{number}:" in said} == shown, said
        assert said.count('is "int"') + said.count('is "builtins.int"') == len(shown), said
