#!/usr/bin/env python3
"""Checks the ABI of libduly: check.py LIBRARY HEADER. Prints "ok NAME" or "FAILED NAME: why" for each check.

Keeps true: the shared library exports what symbols.txt lists and nothing else; the header declares the same functions;
each of them has its five lines; the conventions name every handle; soname and header agree on the ABI's number; the
library is never unloaded.
"""

import pathlib
import re
import subprocess
import sys

LEDGER = pathlib.Path(__file__).with_name("symbols.txt")
LINES = ("Ownership", "Thread-safety", "Blocks", "Status")


def ledger():
    """{function: the version it came in}."""
    rows = [line.split() for line in LEDGER.read_text().splitlines() if line and not line.startswith("#")]
    return {row[0]: row[1] for row in rows}


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines()}


def prototypes(header):
    """{function: the comment lines right above its prototype}."""
    found, comment = {}, []
    for line in header.splitlines():
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        if match := re.match(r"DULY_API .*?\b(duly_\w+)\(", line):
            found[match.group(1)] = comment
        comment = []
    return found


def differences(what, got, wanted):
    lines = [f"{what} has {name}" for name in sorted(got - wanted)]
    return lines + [f"{what} lacks {name}" for name in sorted(wanted - got)]


def lacking(declared):
    """Functions without one line of each kind, in order, after what they do."""
    wrong = []
    for name, comment in declared.items():
        starts = [line.split(":")[0] for line in comment if line.split(":")[0] in LINES]
        if tuple(starts) != LINES or comment[0].split(":")[0] in LINES:
            wrong.append(f"{name}: {starts}")
    return wrong


def handles(header):
    """Handles that the conventions at the top do not name, and names there that are none."""
    opaque = set(re.findall(r"^typedef struct (duly_\w+) \1;", header, re.MULTILINE))
    names = re.search(r"^ \* Names .*?(?=^ \* Arguments)", header, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"duly_[a-z]\w*", names.group(0))) if names else set()
    return differences("the list of handles", named, opaque)


def main():
    library, header_path = sys.argv[1], sys.argv[2]
    header = pathlib.Path(header_path).read_text()
    declared = prototypes(header)
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    number = re.search(r"#define DULY_ABI_VERSION (\d+)", header)
    soname = re.search(r"\(SONAME\).*\[(.*)\]", dynamic)
    checks = {
        "p16_the_library_exports_what_the_ledger_lists": differences("the library", exported(library), set(ledger())),
        "p16_the_header_declares_what_the_ledger_lists": differences("the header", set(declared), set(ledger())),
        "p16_every_function_says_its_five_lines": lacking(declared),
        "p16_the_conventions_name_every_handle": handles(header),
        "p16_the_soname_carries_the_number_of_the_abi": []
        if soname and number and soname.group(1) == f"libduly.so.{number.group(1)}"
        else [f"soname {soname and soname.group(1)}, header {number and number.group(1)}"],
        "p09_the_library_is_never_unloaded": [] if "NODELETE" in dynamic else ["no NODELETE"],
    }
    for name, wrong in checks.items():
        print(f"FAILED {name}: {'; '.join(wrong)}" if wrong else f"ok {name}")
    return any(checks.values())


if __name__ == "__main__":
    sys.exit(main())
