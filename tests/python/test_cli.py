"""The command `duly`: what it prints, what it returns, and that its help can be followed."""

import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "duly"]


def run(*arguments, seconds=50, **kwargs):
    return subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)], capture_output=True, text=True, timeout=seconds, check=False, **kwargs
    )


def test_help_teaches_and_goes_to_the_right_stream():
    for arguments in (["--help"], ["demo", "--help"], ["checksum", "--help"], ["survive", "--help"]):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "exit status: 0 " in done.stdout
        assert all(len(line) <= 125 for line in done.stdout.splitlines())
    nothing = run()
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "start here:" in nothing.stderr
    version = run("--version")
    assert re.fullmatch(r"duly \d+\.\d+\.\d+\n", version.stdout)


@pytest.mark.parametrize(
    "wrong",
    [
        "frobnicate",
        "checksum",
        "checksum --timeout 0 x",
        "checksum --timeout nan x",
        "checksum --workers 0 x",
        "checksum --algorithm md7 x",
        "demo nothing",
        "survive --tasks 3",
        "survive --workers x",
    ],
)
def test_p16_what_is_not_understood_is_status_2(wrong):
    done = run(*shlex.split(wrong))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_demo_shows_programs_that_run():
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = [line[5:] for line in done.stdout.splitlines() if line.startswith("   > ")]
    assert said[0] == "6"
    assert any(re.match(r"after \d+\.\d s: .* did not end by its deadline", line) for line in said)
    assert "1024" in said
    assert any(re.match(r"[23] accepted; task .* was refused", line) for line in said)
    assert 'task "polite" was cancelled: the user has left' in said
    assert "[1, 2, 4, 8, 16, 32]" in said
    assert said[-1] == "balanced"
    one = run("demo", "full")
    assert one.returncode == 0
    assert one.stdout.startswith("1 of 1. It is bounded")


@pytest.fixture
def files(tmp_path):
    contents = {"small": b"1", "empty": b"", "large": b"x" * 1_000_000, "back\\slash": b"2", "new\nline": b"3"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path, contents


def test_checksum_prints_what_sha256sum_prints(files):
    folder, contents = files
    done = run("checksum", *contents, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["sha256sum", *contents], cwd=folder, capture_output=True, text=True).stdout == done.stdout
    checked = subprocess.run(["sha256sum", "-c"], cwd=folder, input=done.stdout, capture_output=True, text=True)
    assert checked.returncode == 0
    other = run("checksum", "--algorithm", "sha1", folder / "small")
    assert other.stdout == f"{hashlib.sha1(b'1').hexdigest()}  {folder / 'small'}\n"


def test_checksum_of_many_in_order(tmp_path):
    names = []
    for number in range(300):
        path = tmp_path / f"folder{number % 3}" / f"{number:03}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
        names.append(os.fspath(path))
    (tmp_path / "link").symlink_to(names[0])
    done = run("checksum", "--recursive", tmp_path)
    assert done.returncode == 0
    assert [line.split("  ", 1)[1] for line in done.stdout.splitlines()] == sorted(names)


def test_p02_checksum_answers_for_a_file_that_is_stuck(files):
    folder, _ = files
    os.mkfifo(folder / "stuck")
    start = time.monotonic()
    done = run("checksum", "--timeout", "3", "stuck", "missing", folder, "small", cwd=folder)
    assert time.monotonic() - start < 20
    assert done.returncode == 1
    assert done.stdout.split() == [hashlib.sha256(b"1").hexdigest(), "small"]
    assert done.stderr.splitlines() == [
        "duly checksum: stuck: timed out",
        "duly checksum: missing: No such file or directory",
        f"duly checksum: {folder}: Is a directory",
    ]


def test_p04_ctrl_c_ends_checksum(files):
    folder, _ = files
    os.mkfifo(folder / "stuck")
    running = subprocess.Popen(
        [*COMMAND, "checksum", "small", "stuck"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with running:
        # Its first line is there: it waits for the second file.
        assert running.stdout.readline().endswith("small\n")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err == "\nduly checksum: interrupted\n"


def test_a_reader_that_has_left_is_no_traceback(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number:04}").touch()
    command = f"{shlex.join([*COMMAND, 'checksum', '-r', os.fspath(tmp_path)])} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_p12_survive_survives_and_its_table_adds_up():
    done = run("survive", "--tasks", "3000", "--workers", "4", "--stuck", "3", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    # On a busy machine it takes long enough to tell how far it is.
    progress = r"duly survive: \d+ of 3000, about \d+ s to go"
    assert [line for line in done.stderr.splitlines() if not re.fullmatch(progress, line)] == []
    lines = done.stdout.splitlines()
    assert lines[0] == "duly survive: 3000 tasks, 4 workers, seed 7"
    assert lines[-1] == "the books balance"
    counts = sum(int(word) for line in lines[3:-3] for word in line.split()[1:])
    assert f"{counts} tasks in " in lines[-2]
    assert lines[-2].endswith("0 threads left behind")


# What a bug of the pool, or of the command, would look like.
SPOILT = """
import sys
import duly._cli.survive as survive
{spoil}
from duly._cli import main
sys.exit(main(["survive", "--tasks", "500", "--workers", "2", "--stuck", "1"]))
"""


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        ("survive._raises = int", "a raises task ended as succeeded"),
        (
            "survive._flood = lambda pool, counts: pool.submit(int).result()",
            r"\d+ were succeeded, \d+ in the pool's books",
        ),
        (
            "import threading; never = threading.Event()\n"
            "threading.Thread(target=never.wait, daemon=True, name='survive-9').start()",
            "thread survive-9 is left behind",
        ),
    ],
)
def test_p12_survive_says_what_does_not_hold(spoil, named):
    done = subprocess.run(
        [sys.executable, "-c", SPOILT.format(spoil=spoil)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(f"DOES NOT HOLD: {named}", done.stderr)
    assert not done.stdout.endswith("the books balance\n")
