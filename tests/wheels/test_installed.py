"""The wheel and the source distribution do their work in environments that hold nothing else."""

import re
import shutil

import pytest
from conftest import ROOT, Clean

VERSIONS = dict(
    re.findall(r'^ +"?([a-z-]+)(?:\[\w+\])?==([\d.]+)"?$', (ROOT / "ci" / "venv").read_text(), re.MULTILINE)
)

USE = """
import duly
import sys
import tempfile

assert sys.prefix in duly.__file__, duly.__file__
with duly.Pool(workers=2, default_timeout=10) as pool:
    assert pool.submit(pow, 2, 10).result() == 1024
with duly.ThreadPoolExecutor(2) as executor:
    assert list(executor.map(abs, [-1, 2])) == [1, 2]
print("fine")
"""


def use(clean):
    """What somebody would do first."""
    python = clean.run("python", "-W", "error", "-c", USE)
    assert python == "fine\n"
    assert clean.run("duly", "survive", "--tasks", "2000", "--workers", "4").endswith("the books balance\n")
    assert "balanced" in clean.run("duly", "demo")
    readme = clean.folder / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    assert clean.run("python", "-m", "duly", "checksum", readme).endswith(f"  {readme}\n")


@pytest.mark.timeout(600)
def test_the_wheel_installs_and_runs(clean, wheel):
    clean.pip("install", "--no-index", wheel)
    assert clean.run("pip", "--disable-pip-version-check", "list", "--format=freeze").count("duly==") == 1
    use(clean)
    # Twice: what the first test run needs is installed by now.
    pinned = [f"{name}=={VERSIONS[name]}" for name in ("pytest", "pytest-timeout")]
    clean.pip("install", *pinned, "tomli; python_version < '3.11'")
    # Exits, forks and the plugin as they are with this build: it has another linker than the module of the tests.
    tests = [ROOT / "tests" / "python" / name for name in ("test_exit.py", "test_exits.py", "test_pytest_plugin.py")]
    options = ["-q", "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]
    said = clean.run("python", "-X", "dev", "-m", "pytest", *options, *tests, PYTHONDONTWRITEBYTECODE="1")
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said


@pytest.mark.timeout(600)
def test_the_source_distribution_builds_and_runs(sdist, tmp_path, request):
    from conftest import interpreters

    clean = Clean(interpreters()[-1], tmp_path / "clean")
    # Only what other crates were built to is kept from one time to the next.
    target = request.config.getoption("--sdist-target")
    clean.pip("install", "--no-binary", "duly", sdist, **({"CARGO_TARGET_DIR": target} if target else {}))
    use(clean)


def test_the_pins_are_read():
    assert {"pytest", "pytest-timeout", "maturin"} <= VERSIONS.keys()
