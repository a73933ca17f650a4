"""What notebooks/conftest.py and the options of pyproject.toml add to nbval, seen by running pytest on notebooks that go wrong."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
CHECKED = {"tags": ["nbval-check-output"]}


def test_the_tests_of_the_readme_run_the_notebooks():
    assert OPTIONS["testpaths"] == ["tests", "notebooks"]
    options = OPTIONS["addopts"].split()
    assert {"--nbval-lax", "--nbval-current-env"} <= set(options)
    values = dict(option.split("=") for option in options if "=" in option)
    assert 0 < float(values["--nbval-cell-timeout"]) <= 600  # nbval's own is 2000 s
    assert (ROOT / values["--nbval-sanitize-with"]).exists()


@pytest.fixture
def outcome(tmp_path):
    """`outcome(cells)`: pytest's words about a notebook of these cells, in a folder with the course's conftest.py."""

    def run(cells: list, first: str = "# Title", *options: str) -> str:
        for name in ("conftest.py", "sanitize.cfg"):
            shutil.copy(ROOT / "notebooks" / name, tmp_path)
        nbformat.write(new_notebook(cells=[new_markdown_cell(first), *cells]), tmp_path / "01_title.ipynb")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "-rA", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0"}
        (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=100)
        return done.stdout

    return run


def cell(source: str, text: str | None = None):
    outputs = [] if text is None else [new_output("stream", text=text)]
    return new_code_cell(source, execution_count=1, outputs=outputs, metadata=CHECKED if text is not None else {})


def test_facts_are_compared_and_a_wrong_one_stops_no_other(outcome):
    said = outcome([cell("print(2)", "2\n"), cell("print(3)", "4\n"), cell("print(5)", "5\n"), cell("print(6)")])
    assert "3 passed" in said and "1 failed" in said and "Cell outputs differ" in said


def test_kernels_have_the_environment_that_made_the_outputs(outcome):
    names = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED"
    said = outcome([cell(f"import os\nprint([os.environ[name] for name in {names}])", "['1', '', '0']\n")])
    assert "1 passed" in said, said


def test_after_a_cell_that_stops_the_rest_is_skipped(outcome):
    said = outcome([cell("x = 1"), cell("1 / 0"), cell("print(x)", "1\n"), cell("print(x)", "1\n")])
    assert "1 passed, 2 skipped" in said.replace("1 failed, ", "") and "cell 1 of this notebook failed" in said


def test_a_dead_kernel_is_noticed_at_once(outcome):
    said = outcome([cell("import os\nos._exit(1)"), cell("print(1)", "1\n")], "# Title", "--nbval-cell-timeout=90")
    assert "the kernel died while it ran this cell" in said and "1 failed, 1 skipped" in said


def test_a_cell_that_hangs_is_stopped(outcome):
    said = outcome([cell("import time\ntime.sleep(60)"), cell("print(1)", "1\n")], "# Title", "--nbval-cell-timeout=2")
    assert "Timeout of 2 seconds exceeded" in said and "1 failed, 1 skipped" in said


def test_a_notebook_may_not_take_longer_than_it_states(outcome, monkeypatch):
    conftest = (ROOT / "notebooks" / "conftest.py").read_text(encoding="utf-8")
    monkeypatch.setattr(shutil, "copy", lambda file, folder: (folder / file.name).write_text(conftest.replace("= 30.0", "= -299.0")))
    said = outcome([cell("import time\ntime.sleep(2)")], "# Title\n\nIt runs in 2 minutes on one CPU core.")
    assert "1 passed" in said  # 360 - 299 s are left
    said = outcome([cell("import time\ntime.sleep(2)")], "# Title\n\nIt runs in 1 minute on one CPU core.")
    assert "states 1 minutes" in said and "1 failed" in said
