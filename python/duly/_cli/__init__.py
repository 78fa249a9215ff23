"""The command `duly`: what a pool does, shown on this machine.

Keeps true:
1. What is asked for goes to stdout, all else (progress, errors) to stderr.
2. The exit status says whether it went well: 0 yes; 1 no; 2 the command was not understood; 130 Ctrl-C; 141 nobody
   reads stdout any more.
3. It needs nothing but the package: a progress line is twenty lines of code, and a pool that is installed for its
   answers should bring no other package along. Who wants tqdm or rich has them: `tqdm(pool.map(…))` knows its length.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from duly._cli import checksum, demo, survive
from duly._duly import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_DESCRIPTION = """\
duly is a bounded worker pool in which every task gets exactly one answer, in time.

You give it a callback and get a task. The task ends when the callback returns, when its deadline passes, when it is
cancelled or when the pool shuts down, whichever is first; then everybody who waits for it is answered. The callback
need not be polite: it may sleep for ever."""

_EPILOG = """\
start here:
  duly demo                  six short programs, each shown and then run
  duly checksum FILE...      a real one: files hashed side by side, a stuck file answered at its deadline
  duly survive               thousands of tasks that fail, hang and are cancelled; a table of what became of them

in a program:
  import duly
  with duly.Pool(workers=4, default_timeout=2.0) as pool:
      print(pool.submit(pow, 2, 10).result())

exit status: 0 it went well; 1 it did not; 2 the command was not understood; 130 Ctrl-C"""


def parser() -> argparse.ArgumentParser:
    """The command line, of which each part explains itself."""
    top = argparse.ArgumentParser(
        prog="duly",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"duly {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for module in (demo, checksum, survive):
        module.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command `duly`; returns its exit status."""
    top = parser()
    options = top.parse_args(arguments)
    if options.command is None:
        top.print_help(sys.stderr)
        return 2
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"\nduly {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit: to where it harms nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status
