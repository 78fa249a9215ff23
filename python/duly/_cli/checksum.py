"""`duly checksum FILE…`: what sha256sum prints, files side by side, and an answer for each in time.

Keeps true: a line for each file that could be read, in the order they were named; for any other the reason on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import duly
from duly._cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 256 * 1024

_DESCRIPTION = """\
Prints the checksum of each file as sha256sum does, with several files read at the same time.

Each file is one task with a timeout: a file that cannot be read in time (a pipe nobody writes to, a network that hangs)
is answered with the reason, and the others go on."""

_EPILOG = """\
examples:
  duly checksum *.iso
  duly checksum --timeout 5 --recursive /mnt/photos | sort > photos.sha256
  mkfifo stuck; duly checksum --timeout 1 README.md stuck; echo $?      # one line, one reason, 1

how it is written (duly/_cli/checksum.py):
  pool = duly.Pool(workers, capacity=64, default_timeout=timeout)
  task = pool.options(label=path).submit(digest, path)       waits while 64 files are queued
  task.result()                                              the digest; OSError; duly.DeadlineExceeded

exit status: 0 every file has its checksum; 1 some have none; 2 the command was not understood; 130 Ctrl-C"""


def add(commands: Any) -> None:
    """Adds the command to the command line."""
    one = commands.add_parser(
        "checksum",
        help="checksums of files, read side by side, each answered in time",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    one.add_argument("files", nargs="+", metavar="FILE")
    one.add_argument("-r", "--recursive", action="store_true", help="FILE may be a folder: every file in it")
    one.add_argument(
        "--algorithm", choices=sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}), default="sha256",
        metavar="NAME", help="as hashlib knows it (%(default)s)",
    )  # fmt: skip
    one.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each file (%(default)s)")
    one.add_argument("--workers", type=_count, metavar="N", help="files read at the same time (the pool's default)")
    one.set_defaults(run=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no span of time")
    return seconds


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 10000")
    return number


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    logging.getLogger("duly").setLevel(logging.ERROR)  # what went wrong is said below, a line a file
    missing = told = 0
    every = list(_files(options.files, options.recursive))
    # What hangs in the operating system is left to it: nobody waits for it at exit.
    pool = duly.Pool(options.workers, capacity=64, default_timeout=options.timeout, name="checksum", exit_timeout=0.0)
    try:
        with Progress("checksum", len(every)) as progress:
            # Only what was not told yet: memory stays flat over a million files.
            tasks: deque[tuple[str, duly.Task[str]]] = deque()
            for path in every:
                tasks.append((path, pool.options(label=path).submit(_digest, path, options.algorithm)))
                while tasks and tasks[0][1].done():
                    missing += not _tell(*tasks.popleft(), progress)
                    told += 1
                progress.show(told)
            for path, task in tasks:
                while not task.wait(0.1):
                    progress.show(told)
                missing += not _tell(path, task, progress)
                told += 1
    finally:
        pool.shutdown(0.0)
    return 1 if missing else 0


def _files(named: list[str], recursive: bool) -> Iterator[str]:
    for path in named:
        if not (recursive and os.path.isdir(path)):
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                inside = os.path.join(folder, name)
                if os.path.isfile(inside) and not os.path.islink(inside):
                    yield inside


def _digest(path: str, algorithm: str) -> str:
    """The callback: on a worker."""
    digest = hashlib.new(algorithm)
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            duly.check_cancelled()  # nobody waits any more? Then stop here.
            digest.update(chunk)
    return digest.hexdigest()


def _tell(path: str, task: duly.Task[str], progress: Progress) -> bool:
    progress.clear()
    # As sha256sum does: a name with a newline stays on one line.
    shown = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    escaped = "" if shown == path else "\\"
    try:
        line = f"{escaped}{task.result()}  {shown}\n"
    except OSError as error:
        reason = "timed out" if isinstance(error, duly.DeadlineExceeded) else (error.strerror or str(error))
        print(f"duly checksum: {shown.encode(errors='replace').decode()}: {reason}", file=sys.stderr)
        return False
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(line))
    sys.stdout.buffer.flush()
    return True
