"""What is in the wheel and in the source distribution, seen by opening them."""

import configparser
import email
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT, output

VERSION = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
TOOLS = ROOT / ".venv-wheels" / "bin"


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as opened:
        return opened.namelist()


@pytest.fixture(scope="module")
def read(wheel):
    def read(name):
        with zipfile.ZipFile(wheel) as opened:
            return opened.read(name).decode()

    return read


@pytest.fixture(scope="module")
def module(wheel, tmp_path_factory):
    """The native module, unpacked."""
    folder = tmp_path_factory.mktemp("module")
    with zipfile.ZipFile(wheel) as opened:
        return pathlib.Path(opened.extract("duly/_duly.abi3.so", folder))


INFO = f"duly-{VERSION}.dist-info"


def test_the_name_says_abi3_39_and_manylinux2014(wheel):
    assert wheel.name.startswith(f"duly-{VERSION}-cp39-abi3-manylinux")
    assert "manylinux2014" in wheel.name


def test_every_source_is_inside_and_nothing_else(names):
    package = ROOT / "python" / "duly"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", package], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wanted = {pathlib.Path(name).relative_to("python").as_posix() for name in tracked.stdout.split()}
    assert {"duly/py.typed", "duly/_duly.pyi", "duly/__init__.py", "duly/pytest_plugin.py"} <= wanted
    assert {name for name in names if name.startswith("duly/")} == wanted | {"duly/_duly.abi3.so"}
    rest = {name for name in names if not name.startswith("duly/")}
    assert {name.split("/")[0] for name in rest} == {INFO}


def test_the_licenses_are_inside(read):
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert read(f"{INFO}/licenses/{name}") == (ROOT / name).read_text()


def test_the_metadata(read):
    metadata = email.message_from_string(read(f"{INFO}/METADATA"))
    assert metadata["Name"] == "duly"
    assert metadata["Version"] == VERSION
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert metadata["Summary"]
    assert metadata["Requires-Dist"] is None, "the package needs no other"
    classifiers = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert "Framework :: Pytest" in classifiers
    assert not any(classifier.startswith("License ::") for classifier in classifiers)
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_the_entry_points(read):
    points = configparser.ConfigParser()
    points.read_string(read(f"{INFO}/entry_points.txt"))
    assert dict(points["console_scripts"]) == {"duly": "duly._cli:main"}
    assert dict(points["pytest11"]) == {"duly": "duly.pytest_plugin"}


def test_auditwheel_agrees(wheel):
    said = " ".join(output(TOOLS / "auditwheel", "show", wheel).split())
    assert re.search(r'consistent with the following platform tag: "manylinux_2_(5|12|17)_', said), said


def test_p07_the_module_unwinds_with_the_systems_unwinder(module):
    """With one of its own, threads that Python ends at exit (by pthread_exit, before 3.14) crash the process."""
    opened = output(TOOLS / "python", "-c", DYNAMIC, module).split("\n")
    needed, exported, imported = (set(line.split()) for line in opened[:3])
    assert "libgcc_s.so.1" in needed
    assert "_Unwind_RaiseException" in imported
    loader = {name for name in needed if name.startswith("ld-linux")}
    assert needed - loader <= {"libgcc_s.so.1", "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
    assert exported == {"PyInit__duly"}


# auditwheel brings pyelftools along.
DYNAMIC = """
import sys
from elftools.elf.elffile import ELFFile

dynamic = ELFFile(open(sys.argv[1], "rb"))
print(*(tag.needed for tag in dynamic.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")))
symbols = [symbol for symbol in dynamic.get_section_by_name(".dynsym").iter_symbols() if symbol.name]
print(*(symbol.name for symbol in symbols if symbol["st_shndx"] != "SHN_UNDEF"))
print(*(symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"))
"""


def test_no_path_of_the_machine_is_inside(wheel, module):
    content = module.read_bytes()
    for folder in {str(ROOT), str(pathlib.Path.home())} - {"/"}:
        assert folder.encode() + b"/" not in content, folder
    assert len(content) < 4_000_000, "it should be stripped"
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            if not name.endswith(".so"):
                assert str(ROOT).encode() not in opened.read(name), name


def test_the_source_distribution_has_what_it_is_built_from(sdist):
    with tarfile.open(sdist) as opened:
        names = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
        top = opened.getnames()[0].split("/")[0]
        info = opened.extractfile(f"{top}/PKG-INFO").read().decode()
    assert top == f"duly-{VERSION}"
    assert {"LICENSE-MIT", "LICENSE-APACHE", "README.md", "Cargo.lock", "Cargo.toml", "pyproject.toml"} <= names
    assert {"core/src/lib.rs", "python/src/lib.rs", "python/build.rs", "python/duly/py.typed"} <= names
    assert not any(name.endswith((".so", ".pyc")) for name in names)
    assert email.message_from_string(info)["Version"] == VERSION


def test_this_is_run_by_the_pinned_tools():
    assert sys.prefix == str(ROOT / ".venv")
