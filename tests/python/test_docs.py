"""docs/python.md and docs/python-coming-from.md show programs that run. test_asgi.py serves the recipe for FastAPI."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"
PAGES = ["python.md", "python-coming-from.md"]
# Which of the imports may be missing: ci/venv installs them for one version of Python.
FOREIGN = {"anyio", "dask", "fastapi", "joblib", "pebble", "trio"}


def snippets():
    """Title and text of every snippet."""
    for page in PAGES:
        for section in re.split(r"^## ", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]:
            for snippet in re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
                yield f"{page}: {section.splitlines()[0]}", snippet


SNIPPETS = list(snippets())


def test_every_snippet_of_the_pages_is_run():
    assert len(SNIPPETS) == sum((DOCS / page).read_text().count("```python") for page in PAGES) >= 15


@pytest.mark.parametrize(("title", "snippet"), SNIPPETS, ids=[title for title, _ in SNIPPETS])
def test_snippet(title, snippet):
    for name in set(re.findall(r"^(?:import|from) (\w+)", snippet, re.MULTILINE)) & FOREIGN:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not here: ci/venv installs it into .venv, for one version of Python")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", snippet],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout
