"""The stubs say what the module has."""

import subprocess
import sys


def test_p16_the_stubs_are_true():
    command = [sys.executable, "-m", "mypy.stubtest", "duly", "--mypy-config-file", "pyproject.toml"]
    checked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    assert checked.returncode == 0, checked.stdout


def test_p16_the_package_is_typed(tmp_path):
    (tmp_path / "user.py").write_text(
        "import duly\n"
        "def add(a: int, b: int = 0) -> int: return a + b\n"
        "pool = duly.Pool(4, overflow='reject')\n"
        "reveal_type(pool.options(timeout=1).submit(add, 1, b=2).result())\n"
        "pool.submit(add, 'text')\n"
        "pool.options(tiemout=1)\n"
        "duly.Pool(overflow='explode')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "user.py"]
    checked = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )
    said = checked.stdout
    assert 'user.py:4: note: Revealed type is "int"' in said.replace("builtins.int", "int"), said
    assert [line.split(":")[1] for line in said.splitlines() if ": error:" in line] == ["5", "6", "7"], said
