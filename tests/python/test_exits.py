"""P9: of the exits of tests/python/exits.py a few; all ten thousand are a part of `make verify`."""

import pathlib
import re
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("exits.py")


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, str(program), *arguments], capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.timeout(300)
def test_p09_exits_with_everything_in_flight_are_quiet_and_true():
    done = run(PROGRAM, "--runs", "34", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^exits: 34 passed, 0 failed, ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("import os; os._exit(3)", "it ended with status 3 and wrote ''"),
        ("sys.stderr.write('noise')", "wrote to stderr"),
        ("import os; os.kill(os.getpid(), 11)", "it ended with status -11"),
        ("import threading; threading.Thread(target=threading.Event().wait).start()", "it was not gone after 60 s"),
        ("import atexit; atexit.register(lambda: os._exit(0)); import os", "it ended with status 0 and wrote"),
    ],
)
def test_what_is_wrong_with_an_exit_is_seen(tmp_path, spoil, why):
    text = PROGRAM.read_text()
    if "not gone" in why:
        text = text.replace("communicate(timeout=SECONDS)", "communicate(timeout=2.0)")
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(text.replace("    scenario.end()\n", f"    {spoil}\n    scenario.end()\n"))
    done = run(spoilt, "--runs", "1", "--seed", "5")
    assert done.returncode == 1, done.stdout
    assert why in done.stdout, done.stdout
    assert "0 passed, 1 failed" in done.stdout
