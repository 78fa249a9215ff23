#!/usr/bin/env python3
"""Writes a call with random arguments for every function of the header: generate.py HEADER OUTPUT.

Keeps true: each function that the header declares gets a call; a parameter, a field or a result of a type that is not
known here ends with an error that names it, so a new function cannot go unnoticed. What a call needs to know besides
its types stands in the tables below, each with the reason.
"""

import pathlib
import re
import sys

# Handles that belong to the object they were read from.
BORROWED_RESULTS = {"duly_group_result_error"}
# A value that this function gives away: `void **` elsewhere is a look at what stays somebody else's.
GIVES_VALUE = {"duly_task_take"}
# Not called at random: patterns, each with the reason.
LEFT_OUT = {
    "duly_set_log": "it is the whole process's",
    "duly_(board|offer|watch|worker)_.*": "for bindings of languages that bring their workers: a protocol of steps",
}


def left_out(name):
    return any(re.fullmatch(pattern, name) for pattern in LEFT_OUT)


# Waits that only their time-out ends, as nobody else holds the object: never asked to wait for ever.
NO_EXIT = {"duly_completions_take", "duly_board_take", "duly_token_wait"}
# Structs that the library fills in, with a reference that becomes the caller's: the field and its kind.
HANDS_OVER = {"duly_completion": [("task", "duly_task")]}
# OK with NULL in the output says: there is no more.
MAY_GIVE_NULL = {"duly_stream_next"}
# PENDING says: the data is the library's until a function that is called later says how it went.
TELLS_LATER = {"duly_submit_async"}
SCALARS = {"uint32_t": "any_u32", "int32_t": "any_i32", "bool": "any_bool", "double": "any_double"}


def parse(text):
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    code = re.sub(r"^#.*$", "", code, flags=re.M)
    functions = re.findall(r"^DULY_API (?:DULY_NODISCARD )?(.*?)\b(duly_\w+)\(([^;]*)\);", code, re.M)
    callbacks = {
        name: (result.strip(), parameters)
        for result, name, parameters in re.findall(r"^typedef (.*?)\(\*(duly_\w+)\)\(([^;]*)\);", code, re.M)
    }
    structs = {
        name: [split(line) for line in body.split(";") if line.strip()]
        for body, name in re.findall(r"^typedef struct(?: \w+)? \{(.*?)\} (duly_\w+);", code, re.M | re.DOTALL)
    }
    opaque = sorted(set(re.findall(r"^typedef struct (duly_\w+) \1;", code, re.M)))
    return functions, callbacks, structs, opaque


def split(declaration):
    kind, name = re.match(r"(.*?[\s*])(\w+)$", " ".join(declaration.split())).groups()
    return kind.replace(" *", "*").strip(), name


class Generator:
    def __init__(self, text):
        self.functions, self.callbacks, self.structs, self.opaque = parse(text)
        self.enums = set(re.findall(r"^typedef int32_t (duly_\w+);", text, re.M))

    def unknown(self, what, kind):
        sys.exit(f"tests/fuzz/generate.py does not know the type `{kind}` of {what}: teach it what is random about it")

    def opaque_in(self, kind):
        found = re.fullmatch(r"(?:const )?(duly_\w+)\*", kind)
        return found.group(1) if found and found.group(1) in self.opaque else None

    def struct_in(self, kind):
        found = re.fullmatch(r"(?:const )?(duly_\w+)\*", kind)
        return found.group(1) if found and found.group(1) in self.structs else None

    def scalar(self, kind, name, where):
        if kind in SCALARS:
            return f"{SCALARS[kind]}(w)"
        if kind in self.enums:
            return "any_i32(w)"
        if kind in ("uint64_t", "int64_t"):
            return "any_span(w)" if name.endswith("_ns") else "any_u64(w)"
        if kind == "size_t":
            return "any_size(w)"
        if kind == "const char*":
            return "any_text(w)"
        return None

    def filler(self, struct):
        """A function that fills an option struct with anything."""
        out = [f"static void fill_{struct}(world *w, {struct} *o) {{", "    memset(o, 0, sizeof *o);"]
        fields = self.structs[struct]
        for index, (kind, name) in enumerate(fields):
            following = fields[index + 1][1] if index + 1 < len(fields) else ""
            value = self.scalar(kind, name, f"{struct}.{name}")
            if name == "size":
                out.append("    o->size = any_version(w, sizeof *o);")
                continue
            if name in ("flags", "reserved"):
                out.append(f"    if (chance(w, 30)) o->{name} = any_u32(w);")
                continue
            if name == "key_size":
                continue
            if name in ("workers",):
                value = "any_workers(w)"
            if name in ("submit_timeout_ns", "drop_drain_ns"):
                # An exit from every wait that the driver could not end.
                out.append(f"    o->{name} = 1 + any_u64(w) % 2000000;")
                continue
            if name == "timeout_ns":
                out.append(f"    if (!w->patient || chance(w, 3)) o->{name} = 1 + any_span(w) % UINT64_MAX;")
                continue
            if name == "stack_size":
                # One that is too small for the callback is the caller's error, and ends the process.
                out.append(
                    "    if (chance(w, 6)) o->stack_size = chance(w, 2) ? 2u << 20 : UINT64_MAX >> below(w, 20);"
                )
                continue
            if name == "period_ns":
                out.append(f"    o->{name} = 100000 + any_u64(w) % 2000000;")
                continue
            if kind == "const void*" and following == "key_size":
                value = "any_key(w, &o->key_size)"
            elif opaque := self.opaque_in(kind):
                value = f"pick(w, KIND_{opaque})"
            elif kind.endswith("_fn") or (kind == "void*"):
                # Hooks that hold data are tested by promise; here they are left out, or are there without data.
                out.append(f"    (void)o->{name};")
                continue
            elif nested := self.struct_in(kind):
                value = f"any_{nested}(w)"
            if value is None:
                self.unknown(f"{struct}.{name}", kind)
            out.append(f"    if (chance(w, 3)) o->{name} = {value};")
        out.append("}")
        # A copy with room behind it, so that a larger size than ours is still the caller's own memory.
        out += [
            f"static const {struct} *any_{struct}(world *w) {{",
            "    unsigned char *room = scratch(w, 8192);",
            "    if (w->patient && chance(w, 4)) return NULL;",
            f"    fill_{struct}(w, ({struct} *)(void *)room);",
            "    if (chance(w, 40)) room[sizeof(" + struct + ") + below(w, 64)] = 1;",
            f"    return (const {struct} *)(void *)room;",
            "}",
        ]
        return out

    def order(self):
        """Option structs, what they point to first."""
        named = [s for s in self.structs if s.endswith("_options")]
        return sorted(named, key=lambda s: any(self.struct_in(kind) for kind, _ in self.structs[s]))

    def call(self, result, name, parameters):
        result = result.replace(" *", "*").strip()
        listed = [] if parameters.strip() == "void" else [split(p) for p in parameters.split(",")]
        before, arguments, good, bad = [], [], [], []
        kinds, names = [kind for kind, _ in listed], [name for _, name in listed]
        skip = None
        for index, (kind, parameter) in enumerate(listed):
            v = f"a{index}"
            following = kinds[index + 1] if index + 1 < len(kinds) else ""
            following_name = listed[index + 1][1] if index + 1 < len(listed) else ""
            struct, opaque = self.struct_in(kind), self.opaque_in(kind)
            out = re.fullmatch(r"(duly_\w+)\*\*", kind)
            if skip == index:
                skip = None
            elif opaque and name.endswith("_release"):
                before.append(f"{kind} {v} = give_up(w, KIND_{opaque});")
            elif opaque:
                before.append(f"{kind} {v} = pick(w, KIND_{opaque});")
            elif out and out.group(1) in self.opaque:
                before.append(f"{out.group(1)} *o{index} = MARK; {kind} {v} = chance(w, 15) ? NULL : &o{index};")
                there = f"{v} && o{index} != NULL" if name in MAY_GIVE_NULL else v
                good.append(f'if ({there}) own(w, KIND_{out.group(1)}, o{index}, "{name}");')
                bad.append(f'if (o{index} != (void *)MARK) fail("{name} wrote an output without OK");')
            elif kind == "void**":
                before.append(f"void *o{index} = MARK; void **{v} = chance(w, 15) ? NULL : &o{index};")
                bad.append(f'if (o{index} != (void *)MARK) fail("{name} wrote an output without OK");')
                if name in GIVES_VALUE:
                    good.append(f"if ({v}) value_taken(o{index});")
            elif kind in ("size_t*", "int*", "duly_outcome*", "int32_t*", "uint64_t*"):
                base = kind[:-1]
                before.append(f"{base} o{index} = 77; {kind} {v} = chance(w, 15) ? NULL : &o{index};")
                bad.append(f'if (o{index} != 77) fail("{name} wrote an output without OK");')
            elif kind == "const int*" and following == "size_t":
                before.append(
                    f"const int *{v} = chance(w, 15) ? NULL : some_signals; size_t a{index + 1} = below(w, 5);"
                )
                skip = index + 1
            elif re.fullmatch(r"const duly_\w+\*const\*", kind) and following == "size_t":
                each = re.fullmatch(r"const (duly_\w+)\*const\*", kind).group(1)
                before.append(
                    f"const {each} *many{index}[8]; for (int i = 0; i < 8; i++) many{index}[i] = pick(w, KIND_{each}); "
                    f"const {each} *const *{v} = chance(w, 15) ? NULL : many{index}; size_t a{index + 1} = below(w, 9);"
                )
                skip = index + 1
            elif kind == "const void*" and following == "size_t":
                before.append(f"size_t a{index + 1} = 0; {kind} {v} = any_key(w, &a{index + 1});")
                skip = index + 1
            elif kind.endswith("_fn") and kind != "duly_drop_fn":
                if kind not in self.callbacks:
                    self.unknown(name, kind)
                before.append(f"{kind} {v} = chance(w, 30) ? NULL : stub_{kind};")
            elif kind == "duly_drop_fn":
                before.append(f"{kind} {v} = chance(w, 4) ? NULL : probe_drop;")
            elif kind == "void*" and parameter == "tell_data":
                # The data whose way is told.
                before.append(f"void *{v} = p{names.index('user_data')};")
            elif kind == "void*" and following == "duly_drop_fn":
                before.append(
                    f"probe *p{index} = any_probe(w); void *{v} = p{index}; duly_drop_fn a{index + 1} = probe_drop;"
                )
                good.append(f"probe_handed_over(p{index});")
                bad.append(f"probe_stays(p{index});")
                skip = index + 1
            elif struct and following == "size_t" and not kind.startswith("const"):
                if following_name == "size":
                    before.append(
                        f"size_t a{index + 1} = any_version(w, sizeof({struct})); "
                        f"{struct} *{v} = guarded(w); if (chance(w, 15)) {v} = NULL;"
                    )
                    good.append(f'guard_holds(a{index + 1}, "{name}");')
                    bad.append(f'guard_holds(0, "{name}");')
                else:
                    if struct not in HANDS_OVER:
                        self.unknown(name, kind)
                    before.append(
                        f"{struct} many{index}[16]; {struct} *{v} = chance(w, 15) ? NULL : many{index}; "
                        f"size_t a{index + 1} = below(w, 17);"
                    )
                    for field, owned in HANDS_OVER[struct]:
                        good.append(
                            f"for (size_t i = 0; i < o{index + 2}; i++) "
                            f'own(w, KIND_{owned}, many{index}[i].{field}, "{name}");'
                        )
                skip = index + 1
            elif struct and struct in self.order():
                before.append(f"{kind} {v} = any_{struct}(w);")
            elif struct:
                before.append(f"{kind} {v} = chance(w, 15) ? NULL : guarded(w);")
            elif value := self.scalar(kind, parameter, name):
                if kind == "uint64_t" and name in NO_EXIT:
                    value = "any_u64(w) % 2000000"
                if parameter == "workers":
                    value = "any_workers(w)"
                before.append(f"{kind} {v} = {value};")
            else:
                self.unknown(f"the parameter {parameter} of {name}", kind)
            arguments.append(v)
        call = f"{name}({', '.join(arguments)})"
        tags = [
            f"(unsigned long long)(uintptr_t){a}" if "*" in k or k.endswith("_fn") else f"(unsigned long long){a}"
            for a, (k, _) in zip(arguments, listed)
        ]
        tags = [*tags, "0", "0", "0", "0"][:4]
        lines = [f"static void call_{name}(world *w) {{"]
        lines += [f"    {line}" for line in before]
        lines.append(f'    note_call(w, "{name}", {len(listed)}, {", ".join(tags)});')
        if result in self.enums and result == "duly_status":
            lines += [f"    duly_status got = {call};", "    note_result(w, got);"]
            otherwise = "else if (got != DULY_STATUS_PENDING)" if name in TELLS_LATER else "else"
            lines += [f"    if (got == DULY_STATUS_OK) {{ {' '.join(good)} }} {otherwise} {{ {' '.join(bad)} }}"]
        elif result == "void":
            lines.append(f"    {call};")
        elif result == "const char*":
            lines.append(
                f"    const char *got = {call}; "
                f'if (got == NULL) fail("{name} gave NULL"); else note_result(w, (long)strlen(got));'
            )
        elif kind := self.opaque_in(result):
            lines.append(f"    {kind} *got = {call};")
            if name.endswith("_retain"):
                lines.append(f'    if (got != NULL) own(w, KIND_{kind}, got, "{name}");')
            elif name in BORROWED_RESULTS:
                lines.append(f'    if (got != NULL) own(w, KIND_{kind}, retain_handle(KIND_{kind}, got), "{name}");')
            else:
                self.unknown(f"the result of {name}, owned or borrowed", result)
        elif result in ("bool", "int", "int32_t", "uint32_t", "uint64_t", "size_t"):
            lines.append(f"    note_result(w, (long){call});")
        else:
            self.unknown(f"the result of {name}", result)
        return [*lines, "}"]

    def stub(self, name):
        result, parameters = self.callbacks[name]
        if name == "duly_run_fn":
            return [f"#define stub_{name} probe_run"]
        if name == "duly_drop_fn":
            return []
        if name == "duly_submitted_fn":
            return [
                f"static {result} stub_{name}({parameters}) "
                "{ if (status == DULY_STATUS_OK) duly_task_release(task); else probe_stays(tell_data); }"
            ]
        listed = [split(p) for p in parameters.split(",")]
        body = "" if result == "void" else "return 0;"
        if name == "duly_next_fn":
            # Of five items the fifth is the end; an item is nothing that anybody owns.
            return [
                f"static {result} stub_{name}({parameters}) "
                "{ (void)user_data; *item = NULL; return atomic_fetch_add(&items, 1) % 5 != 4; }"
            ]
        return [f"static {result} stub_{name}({parameters}) {{ {' '.join(f'(void){p};' for _, p in listed)} {body} }}"]

    def write(self):
        out = [
            "/* Made by tests/fuzz/generate.py from the header: do not edit. Included by fuzz.c. */",
            "static atomic_uint items;",
        ]
        for struct in self.order():
            out += self.filler(struct)
        for name in self.callbacks:
            out += self.stub(name)
        called = [f for f in self.functions if not left_out(f[1])]
        for result, name, parameters in called:
            out += self.call(result, name, parameters)
        out.append("static const struct { const char *name; void (*call)(world *w); int weight; } calls[] = {")
        for _, name, _ in called:
            weight = (
                8
                if re.search(r"_new$|submit|_run$|_child$|default_queue|add_queue|_every$|stream_next", name)
                else 2
                if "release" in name
                else 3
            )
            weight = 1 if re.search(r"shutdown|close|set_capacity|version|_name$|_init$", name) else weight
            out.append(f'    {{"{name}", call_{name}, {weight}}},')
        out.append("};")
        kinds = "".join(f" KIND_{kind}," for kind in self.opaque)
        head = [
            f"enum {{{kinds} KINDS }};",
            "static void *retain_handle(int kind, void *p) {",
            "    switch (kind) {",
            *[
                f"    case KIND_{k}: return {k}_retain(p);"
                for k in self.opaque
                if any(n == f"{k}_retain" for _, n, _ in self.functions)
            ],
            "    default: return NULL;",
            "    }",
            "}",
            "static void release_handle(int kind, void *p) {",
            "    switch (kind) {",
            *[
                f"    case KIND_{k}: {k}_release(p); break;"
                for k in self.opaque
                if any(n == f"{k}_release" for _, n, _ in self.functions)
            ],
            "    }",
            "}",
        ]
        return "\n".join(head) + "\n", "\n".join(out) + "\n"


def main():
    generator = Generator(pathlib.Path(sys.argv[1]).read_text())
    if not generator.functions:
        sys.exit("tests/fuzz/generate.py: the header declares no function")
    kinds, calls = generator.write()
    folder = pathlib.Path(sys.argv[2])
    (folder / "kinds.inc").write_text(kinds)
    (folder / "calls.inc").write_text(calls)
    print(f"figure: fuzz functions called = {calls.count('static void call_')} of {len(generator.functions)}")


if __name__ == "__main__":
    main()
