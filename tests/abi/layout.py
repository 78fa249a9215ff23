#!/usr/bin/env python3
"""Holds include/duly.h against the header of the last release: layout.py BASELINE HEADER CC [ABIDIFF].

Prints "ok NAME", "FAILED NAME: why" or "SKIPPED NAME: why" for each check.
Keeps true: what a program compiled with the baseline relies on is still so: prototypes, sizes, offsets and types of
fields, numbers of enums and constants. What may change: functions, enumerators and constants are added; a struct that
starts with its size, or whose size is handed over, grows at its end. No struct has padding, so its size tells its
version. Sizes and offsets are the compiler's own answers. Each rule is first shown to see a planted break.
`layout.py --release BASELINE HEADER` makes the header the new baseline: at a release, and never otherwise once there
was one.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Only these may grow: a program never has an array of them, and hands over their size.
GROWS = {"options", "stats", "numbers", "carry", "leak"}


def without_names(parameters):
    """The types of a list of parameters."""
    kept = []
    for one in parameters.split(","):
        one = one.strip()
        kept.append(re.sub(r"([\s*])\w+$", r"\1", one).strip() if re.search(r"[\s*]\w+$", one) else one)
    return ", ".join(kept)


class Header:
    """What a header says, and what the compiler makes of it."""

    def __init__(self, text, cc):
        code = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
        self.text = text
        self.functions = {
            name: f"{' '.join(result.split())} ({without_names(parameters)})"
            for result, name, parameters in re.findall(
                r"^DULY_API (?:DULY_NODISCARD )?(.*?)\b(duly_\w+)\(([^;]*)\);", code, re.M
            )
        }
        self.callbacks = {
            name: f"{result} ({without_names(parameters)})"
            for result, name, parameters in re.findall(r"^typedef (.*?) ?\(\*(duly_\w+)\)\(([^;]*)\);", code, re.M)
        }
        self.structs = {}
        for body, name in re.findall(r"^typedef struct(?: \w+)? \{(.*?)\} (duly_\w+);", code, re.M | re.DOTALL):
            fields = [" ".join(line.split()) for line in body.split(";") if line.strip()]
            self.structs[name] = [self.field(line) for line in fields]
        self.constants = sorted(
            set(re.findall(r"^#define (DULY_\w+) \(?(?:-?\d|UINT)", code, re.M))
            | {
                name
                for body in re.findall(r"^enum duly_\w+.*?\{(.*?)\};", code, re.M | re.DOTALL)
                for name in re.findall(r"\b(DULY_\w+) =", body)
            }
        )
        self.constants = [name for name in self.constants if not name.startswith("DULY_VERSION_")]
        self.measure(cc)

    @staticmethod
    def field(line):
        if pointer := re.match(r"(.*)\(\*(\w+)\)\((.*)\)$", line):
            return pointer.group(2), f"{pointer.group(1).strip()} ({without_names(pointer.group(3))})"
        kind, name = re.match(r"(.*?[\s*])(\w+)$", line).groups()
        return name, kind.strip()

    def measure(self, cc):
        """Asks the compiler: {"duly_x": size, "duly_x.field": (offset, size), "DULY_X": number}."""
        lines = []
        for struct, fields in self.structs.items():
            lines.append(f'printf("{struct} %zu 0\\n", sizeof({struct}));')
            for name, _ in fields:
                place, size = f"offsetof({struct}, {name})", f"sizeof((({struct} *)0)->{name})"
                lines.append(f'printf("{struct}.{name} %zu %zu\\n", {place}, {size});')
        lines += [f'printf("{name} %lld 0\\n", (long long){name});' for name in self.constants]
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "duly.h").write_text(self.text)
            body = "\n    ".join(lines)
            (folder / "ask.c").write_text(
                f'#include <stdio.h>\n#include "duly.h"\nint main(void) {{\n    {body}\n    return 0;\n}}\n'
            )
            subprocess.run([*cc.split(), "-std=c11", "-I", folder, folder / "ask.c", "-o", folder / "ask"], check=True)
            out = subprocess.run([folder / "ask"], check=True, capture_output=True, text=True).stdout
        self.numbers = {name: (int(a), int(b)) for name, a, b in (line.split() for line in out.splitlines())}

    def padding(self):
        """Structs that are longer than their fields."""
        return [
            f"{struct} has padding"
            for struct, fields in self.structs.items()
            if sum(self.numbers[f"{struct}.{name}"][1] for name, _ in fields) != self.numbers[struct][0]
        ]

    def stubs(self):
        """A C file with a function for each prototype, for abidiff to read."""
        code = re.sub(r"//[^\n]*|/\*.*?\*/", "", self.text, flags=re.DOTALL)
        found = re.findall(r"^DULY_API (?:DULY_NODISCARD )?(.*?\bduly_\w+\([^;]*\));", code, re.M)
        return '#include <stdlib.h>\n#include "duly.h"\n' + "".join(f"{one} {{ abort(); }}\n" for one in found)


def breaks(old, new):
    """What a program that was compiled with the old header would stumble over."""
    wrong = []
    for what in ("functions", "callbacks"):
        for name, was in getattr(old, what).items():
            now = getattr(new, what).get(name)
            if now != was:
                wrong.append(f"{name} was {was}, is {now or 'gone'}")
    for struct, fields in old.structs.items():
        now = dict(new.structs.get(struct, ()))
        if not now:
            wrong.append(f"{struct} is gone")
            continue
        for name, kind in fields:
            key = f"{struct}.{name}"
            if now.get(name) != kind or new.numbers.get(key) != old.numbers[key]:
                wrong.append(
                    f"{key} was {kind} at {old.numbers[key]}, is {now.get(name, 'gone')} at {new.numbers.get(key)}"
                )
        if new.numbers[struct] != old.numbers[struct] and struct.rsplit("_", 1)[-1] not in GROWS:
            wrong.append(
                f"{struct} was {old.numbers[struct][0]} bytes, is {new.numbers[struct][0]}: its size is not handed over"
            )
    for name in old.constants:
        if new.numbers.get(name) != old.numbers[name]:
            wrong.append(f"{name} was {old.numbers[name][0]}, is {new.numbers.get(name, ['gone'])[0]}")
    return wrong


def replaced(text, old, new):
    if text.count(old) < 1:
        sys.exit(f"layout: the header has no {old!r} to plant a break in")
    return text.replace(old, new, 1)


# name of the break, what is replaced by what; the last one is none
PLANTED = [
    ("a function that is gone", "DULY_API duly_status duly_pool_close(", "DULY_API duly_status duly_pool_closed("),
    (
        "another parameter",
        "duly_task_wait(const duly_task *task, uint64_t",
        "duly_task_wait(const duly_task *task, int32_t",
    ),
    ("another result", "DULY_API bool duly_stats_balance(", "DULY_API int32_t duly_stats_balance("),
    (
        "a callback of another type",
        "typedef void (*duly_drop_fn)(void *user_data)",
        "typedef int (*duly_drop_fn)(void *user_data)",
    ),
    (
        "a field in the middle",
        "    uint64_t replace_after_ns;",
        "    uint64_t planted;\n    uint64_t replace_after_ns;",
    ),
    ("a field of another type", "    uint32_t capacity;", "    int32_t capacity;"),
    ("another number", "DULY_STATUS_TAKEN = -23", "DULY_STATUS_TAKEN = -29"),
    ("another constant", "#define DULY_NONE UINT32_MAX", "#define DULY_NONE UINT16_MAX"),
]
GROWN = [
    ("DULY_STATUS_TAKEN = -23,", "DULY_STATUS_TAKEN = -23,\n    DULY_STATUS_PLANTED = -99,"),
    ("} duly_pool_options;", "    uint64_t planted;\n} duly_pool_options;"),
    (
        "DULY_API void duly_pool_release(",
        "DULY_API void duly_pool_planted(duly_pool *pool);\nDULY_API void duly_pool_release(",
    ),
]


def self_test(text, header, cc):
    wrong = []
    for name, old, new in PLANTED:
        # A field's own name may stand in several structs: every one is planted in, one at least is seen.
        planted = Header(replaced(text, old, new), cc)
        if not breaks(header, planted):
            wrong.append(f"{name} is not seen")
    grown = text
    for old, new in GROWN:
        grown = replaced(grown, old, new)
    wrong += [f"what may be added is refused: {line}" for line in breaks(header, Header(grown, cc))]
    padded = Header(replaced(text, "} duly_pool_options;", "    uint32_t planted;\n} duly_pool_options;"), cc)
    if not padded.padding():
        wrong.append("padding at the end is not seen")
    return wrong


def without_growth(old, new, cc):
    """The new header, without the fields that its structs have grown at their ends."""
    text = new.text
    for struct, fields in old.structs.items():
        if struct in new.structs and struct.rsplit("_", 1)[-1] in GROWS:
            last = re.escape(fields[-1][0])
            text = re.sub(rf"(typedef struct \{{[^}}]*\b{last}\b[^;]*;)[^}}]*(\}} {struct};)", r"\1\n\2", text)
    return Header(text, cc)


def abidiff(tool, cc, old, new, folder):
    """What abidiff says about two headers: libraries of stubs, so that no Rust type and no compiler's whim is compared.

    Numbers of enums are not in it: a status is an int32_t to a C program.
    """
    new = without_growth(old, new, cc)
    libraries = []
    for name, header in (("old", old), ("new", new)):
        place = pathlib.Path(folder) / name
        place.mkdir(exist_ok=True)
        (place / "duly.h").write_text(header.text)
        (place / "stubs.c").write_text(header.stubs())
        library = place / "libduly.so.0"
        subprocess.run(
            [
                *cc.split(),
                "-std=c11",
                "-g",
                "-O0",
                "-shared",
                "-fPIC",
                "-Wl,-soname,libduly.so.0",
                "-I",
                place,
                place / "stubs.c",
                "-o",
                library,
            ],
            check=True,
        )
        libraries.append(library)
    out = subprocess.run([tool, "--no-added-syms", *libraries], capture_output=True, text=True)
    # 1 and 2: abidiff itself failed; 4: something changed; 8: it is incompatible.
    if out.returncode & 3:
        sys.exit(f"layout: abidiff: {out.stdout}{out.stderr}")
    return out.stdout if out.returncode else ""


def main():
    if sys.argv[1] == "--release":
        shutil.copyfile(sys.argv[3], sys.argv[2])
        return 0
    baseline, header, cc = sys.argv[1:4]
    tool = sys.argv[4] if len(sys.argv) > 4 else ""
    old, text = Header(pathlib.Path(baseline).read_text(), cc), pathlib.Path(header).read_text()
    new = Header(text, cc)
    checks = {
        "p16_planted_breaks_of_the_abi_are_seen": self_test(text, new, cc),
        "p16_programs_of_the_last_release_still_run": breaks(old, new),
        "p16_no_struct_has_padding": new.padding(),
        "p16_the_parser_of_the_header_misses_no_function": []
        if len(new.functions) == len(re.findall(r"^DULY_API ", text, re.M))
        else ["a prototype was not understood"],
    }
    if tool:
        with tempfile.TemporaryDirectory() as folder:
            planted = [
                name
                for name, was, now in PLANTED[:6]
                if not abidiff(tool, cc, new, Header(replaced(text, was, now), cc), folder)
            ]
            checks["p16_abidiff_sees_planted_breaks"] = planted
            said = abidiff(tool, cc, old, new, folder)
            checks["p16_abidiff_finds_no_break_since_the_last_release"] = [said] if said else []
    else:
        print("SKIPPED p16_abidiff: there is none. Cure: apt-get install abigail-tools")
    for name, wrong in checks.items():
        print(f"FAILED {name}: {'; '.join(wrong)}" if wrong else f"ok {name}")
    return any(checks.values())


if __name__ == "__main__":
    sys.exit(main())
