"""The main job, examples/checksum.py: its digest, its report, its end by a signal."""

import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "examples" / "checksum.py"


def run(*args, **kwargs):
    command = [sys.executable, "-W", "error", str(PROGRAM), *map(os.fspath, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, **kwargs)


@pytest.fixture
def tree(tmp_path):
    """A small tree with what a walk must not trip over; with the digest that sha256sum would give."""
    root = tmp_path / "tree"
    files = {
        b"empty": b"",
        b"sub/large": b"x" * 1_000_000,
        b".hidden/file": b"1",
        b"not utf-8 \xff\n": b"2",
        b"z": b"3",
    }
    files.update({b"many/%d" % number: b"%d" % number for number in range(30)})
    for name, content in files.items():
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    (root / "link").symlink_to("empty")
    (root / "folder link").symlink_to("sub")
    os.mkfifo(root / "pipe")
    lines = [hashlib.sha256(files[name]).hexdigest().encode() + b"  " + name + b"\n" for name in sorted(files)]
    return root, len(files), hashlib.sha256(b"".join(lines)).hexdigest()


def test_p12_checksum_gives_the_digest_and_the_books_balance(tree):
    root, count, digest = tree
    done = run(root, "--planted-timeout", "6", "--workers", "4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2:] == [f"digest {digest}  files {count}", "books balance"]
    rows = {row[0].strip(): (int(row[1]), int(row[2])) for row in (line.strip("| ").split("|") for line in lines[2:10])}
    assert rows["succeeded"][0] == count
    assert [rows[word][1] for word in ("failed", "cancelled", "deadline_exceeded")] == [1, 1, 1]
    assert rows["succeeded"][1] + rows["refused"][1] == 64 + 2 * 4 + 64
    assert rows["refused"][1] > 0
    text = done.stdout
    assert re.search(r"^planted:raises +failed +planted: this callback raises$", text, re.MULTILINE)
    assert re.search(r"^planted:sleeps-for-ever +deadline_exceeded ", text, re.MULTILINE)
    assert re.search(r"^planted:ignores-cancellation +cancelled ", text, re.MULTILINE)
    assert "shutdown: drained; still running: planted:ignores-cancellation, planted:sleeps-for-ever" in lines


def test_p12_checksum_of_files_only(tree):
    root, count, digest = tree
    done = run(root, "--no-planted")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-3:] == ["shutdown: drained", f"digest {digest}  files {count}", "books balance"]


def test_p16_checksum_says_what_is_wrong_with_its_arguments(tmp_path):
    for args in ([tmp_path / "none"], ["--workers", "0"], ["--timeout", "nan"], ["--explode"], ["--capacity", "-1"]):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 2, args
        assert done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("twice", [False, True])
def test_p04_a_signal_drains_and_reports_in_the_grace_period(tmp_path, number, twice):
    # Every file takes for ever: its callback, on a worker, does not come back from its first call.
    for name in range(200):
        (tmp_path / str(name)).write_text("x")
    script = f"""
import hashlib, runpy, sys, threading

def sha256(*data):
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
    return real(*data)

hashlib.sha256, real = sha256, hashlib.sha256
sys.argv = ["checksum", {str(tmp_path)!r}, "--grace", {"30" if twice else "1"!r}, "--no-planted", "--workers", "1"]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            interrupt(process, number, twice)
        finally:
            process.kill()


def interrupt(process, number, twice):
    wait_until_blocked(process.pid)
    start = time.monotonic()
    process.send_signal(number)
    while twice and process.poll() is None and time.monotonic() - start < 20:
        # One that comes before the first was seen counts for nothing.
        time.sleep(0.3)
        process.send_signal(number)
    out, err = process.communicate(timeout=20)
    took = time.monotonic() - start
    assert process.returncode == 128 + number, err
    if twice:
        assert took < 20, "the grace period is longer"
        assert out == ""
        return
    assert 1.0 <= took < 15
    lines = out.splitlines()
    assert lines[0] == f"interrupted by {number.name}"
    assert lines[-2].startswith("digest incomplete")
    assert lines[-1] == "books balance"
    assert any(line.startswith("shutdown: not drained, ") for line in lines)
    assert "Traceback" not in err


def wait_until_blocked(pid):
    """Until the program has submitted what the queue takes: its worker is there, it handles signals (SIGTERM is the
    last), and its main thread sleeps."""
    end = time.monotonic() + 10
    while True:
        names = [comm.read_text().strip() for comm in pathlib.Path(f"/proc/{pid}/task").glob("*/comm")]
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
        if "checksum-0" in names and caught >> (signal.SIGTERM - 1) & 1:
            time.sleep(0.3)
            return
        assert time.monotonic() < end, names
        time.sleep(0.01)
