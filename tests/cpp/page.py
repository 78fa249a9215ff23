#!/usr/bin/env python3
"""Does what docs/cpp.md says: page.py PAGE SOURCES FOLDER. Prints "ok NAME" or "FAILED NAME: why" for each command.

Keeps true: a program is written to the file that the line before it names, in FOLDER; commands are run there as they
stand, one shell for all; what they print is what the page shows after them. FOLDER/duly leads to SOURCES, HOME is in
FOLDER.
"""

import os
import pathlib
import re
import subprocess
import sys

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
MARK = "=== command {}: {}"


def main():
    page, sources, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    text = page.read_text()
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    link = folder / "duly"
    link.unlink(missing_ok=True)
    link.symlink_to(sources)
    script, shown, at = ["set -u"], [], 0
    for block in BLOCK.finditer(text):
        kind, body = block.groups()
        if kind == "cpp":
            name = re.findall(r"`([\w.]+)`:$", text[at : block.start()].strip())
            if not name:
                sys.exit(f"page: a program of {page.name} has no name before it: {body[:40]!r}")
            (folder / name[0]).write_text(body)
        elif kind == "sh":
            script += [body, f"printf '%s\\n' '{MARK.format(len(shown), 'status')}'$?"]
            shown.append(None)
        elif kind == "text":
            shown[-1] = body
        at = block.end()
    # Rust is found where it was, whatever HOME is.
    real = pathlib.Path.home()
    where = {"CARGO_HOME": str(real / ".cargo"), "RUSTUP_HOME": str(real / ".rustup")}
    environment = {**where, **os.environ, "HOME": str(home)}
    ran = subprocess.run(["bash", "-c", "\n".join(script)], cwd=folder, env=environment, capture_output=True, text=True)
    rest, failed = ran.stdout, 0
    for number, wanted in enumerate(shown):
        found, mark, rest = rest.partition(MARK.format(number, "status"))
        status, _, rest = rest.partition("\n")
        name = f"p01_the_page_cpp_does_what_it_says_{number + 1}"
        if mark and status == "0" and (wanted is None or found == wanted):
            print(f"ok {name}")
            continue
        failed += 1
        print(f"  stdout: {found}\n  stderr: {ran.stderr[-3000:]}")
        print(f"FAILED {name}: status {status or 'none'}" + ("" if wanted is None else f", wanted: {wanted!r}"))
    if len(shown) < 4 or sum(wanted is not None for wanted in shown) < 3:
        failed += 1
        print(f"FAILED p01_the_page_cpp_shows_programs: only {len(shown)} commands were found")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
