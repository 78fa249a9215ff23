"""What ci/wheel has built, and clean environments to install it in.

Keeps true: nothing of the tree is importable in a clean environment, and nothing is in it but what a test installs.
"""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIST = pathlib.Path(os.environ.get("DULY_DIST", ROOT / "dist"))


def pytest_addoption(parser):
    parser.addoption("--sdist-target", help="where cargo keeps what it built for the source distribution")


def built(pattern):
    found = sorted(DIST.glob(pattern))
    assert len(found) == 1, f"{pattern} in {DIST}: {[path.name for path in found]}; ci/wheel makes one"
    return found[0]


@pytest.fixture(scope="session")
def wheel():
    """The abi3 wheel for this kind of machine."""
    return built(f"duly-*-abi3-manylinux*_{os.uname().machine}*.whl")


@pytest.fixture(scope="session")
def sdist():
    """The source distribution."""
    return built("duly-*[0-9].tar.gz")


def output(*command, **kwargs):
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [os.fspath(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
        **kwargs,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def interpreters():
    """This one, and what ci/pythons has found: the lowest and the highest."""
    others = os.environ.get("DULY_PYTHONS", "").split()
    return [sys.executable, *others]


class Clean:
    """A virtual environment with nothing in it."""

    def __init__(self, python, folder):
        base = output(python, "-c", "import sys; print(sys._base_executable)").strip()
        output(base, "-m", "venv", folder)
        self.folder, self.bin = folder, folder / "bin"
        # Neither the tree nor another environment, and none of the settings of the one who runs this.
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment.update(
            {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_PROXY")}
        )

    def run(self, *command, **environment):
        """What a command of the environment prints; run where nothing else is importable."""
        program = self.bin / command[0]
        return output(program, *command[1:], cwd=self.folder, env={**self.environment, **environment})

    def pip(self, *arguments, **environment):
        return self.run("pip", "--disable-pip-version-check", "--quiet", *arguments, **environment)


@pytest.fixture(scope="session", params=interpreters(), ids=lambda python: pathlib.Path(python).parents[1].name)
def clean(request, tmp_path_factory):
    """A clean environment for each interpreter."""
    return Clean(request.param, tmp_path_factory.mktemp("clean"))
