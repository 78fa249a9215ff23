#!/usr/bin/env python3
"""Writes the conformance table as a C table: conformance_table.py OUTPUT [LANGUAGE]. Languages: c (default), cpp.

Keeps true: what it writes is what tests/conformance says, nothing added; a case that needs a word that verbs.toml lists
under the language is written with that reason, and is skipped by the runner; an unknown word is an error.
"""

import pathlib
import sys

try:
    import tomllib
except ImportError:  # before Python 3.11
    import tomli as tomllib

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "conformance"
STEP_WORDS = {"name", "why", "needs", "pool", "steps", "fails_at"}


def read(path):
    with path.open("rb") as file:
        return tomllib.load(file)


def quoted(text):
    """A C string literal of the text's UTF-8, split after escapes so that no digit joins one."""
    out = []
    for byte in text.encode():
        char = chr(byte)
        out.append(char if 32 <= byte < 127 and char not in '"\\?' else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def field(key, value, lists):
    if isinstance(value, bool):
        return f"{{{quoted(key)}, FLAG, NULL, {int(value)}, NULL}}"
    if isinstance(value, int):
        return f"{{{quoted(key)}, NUMBER, NULL, {value}LL, NULL}}"
    if isinstance(value, str):
        return f"{{{quoted(key)}, TEXT, {quoted(value)}, 0, NULL}}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        lists.append(value)
        return f"{{{quoted(key)}, LIST, NULL, {len(value)}, list_{len(lists) - 1}}}"
    raise SystemExit(f"conformance_table: {key} = {value!r} is no text, integer, boolean or array of texts")


def main():
    verbs = read(FOLDER / "verbs.toml")
    language = sys.argv[2] if len(sys.argv) > 2 else "c"
    missing = verbs[language]
    known = set(verbs["verbs"])
    if unknown := set(missing) - known:
        raise SystemExit(f"conformance_table: [{language}] of verbs.toml has unknown words: {sorted(unknown)}")
    tables = {
        "cases": [case for path in sorted((FOLDER / "cases").glob("*.toml")) for case in read(path)["case"]],
        "wrong": read(FOLDER / "wrong.toml")["case"],
    }
    lists, steps, rows, names = [], [], {}, set()
    for table, cases in tables.items():
        rows[table] = []
        for case in cases:
            name = case["name"]
            if unknown := set(case) - STEP_WORDS:
                raise SystemExit(f"conformance_table: {name}: unknown fields {sorted(unknown)}")
            if unknown := set(case["needs"]) - known:
                raise SystemExit(f"conformance_table: {name}: unknown needs {sorted(unknown)}")
            if name in names:
                raise SystemExit(f"conformance_table: there are two cases {name}")
            names.add(name)
            skipped = next((f"{need}: {missing[need]}" for need in case["needs"] if need in missing), None)
            todo = [{"do": "pool", **case["pool"]}] if "pool" in case else []
            first = len(steps)
            steps += [[field(key, value, lists) for key, value in step.items()] for step in todo + case["steps"]]
            rows[table].append(
                f"    {{{quoted(name)}, {quoted(skipped) if skipped else 'NULL'}, steps + {first}, "
                f"{len(steps) - first}, {len(todo)}, {case.get('fails_at', 0)}}},"
            )
    out = ["/* Written by tests/c/conformance_table.py from tests/conformance. */", '#include "conformance.h"', ""]
    out += [
        f"static const char *const list_{number}[] = {{{', '.join([quoted(item) for item in items] + ['NULL'])}}};"
        for number, items in enumerate(lists)
    ]
    out += [f"static const field fields_{n}[] = {{{', '.join(fields)}}};" for n, fields in enumerate(steps)]
    out += ["static const step steps[] = {"]
    out += [f"    {{fields_{number}, {len(fields)}}}," for number, fields in enumerate(steps)]
    out += ["};"]
    for table, lines in rows.items():
        out += [f"const conformance_case conformance_{table}[] = {{", *lines, "};"]
        out += [f"const size_t conformance_{table}_count = {len(lines)};"]
    pathlib.Path(sys.argv[1]).write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
