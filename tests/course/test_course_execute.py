"""Notebooks are executed and written so that a second run leaves no difference; one that fails is left alone."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from semmim_mini.course.execute import cell_ids, execute, find, main, normalise
from semmim_mini.errors import UserError

PLOT = """from matplotlib.figure import Figure
from semmim_mini.course.pictures import show
figure = Figure(figsize=(2, 1))
figure.add_subplot().plot([1, 2])
show(figure, "A line.")"""


def write(path, *sources):
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, sources)]), path)
    return path


def test_twice_leaves_no_difference(tmp_path):
    path = write(tmp_path / "01_a.ipynb", "import os\nprint(os.environ['OMP_NUM_THREADS'], {'b', 'a', 'c'})", PLOT)
    assert execute(path) > 0
    once = path.read_bytes()
    execute(path)
    assert path.read_bytes() == once and once.endswith(b"}\n")
    cells = nbformat.read(path, as_version=4).cells
    assert cells[1].outputs[0].text.startswith("1 {") and [cell.execution_count for cell in cells[1:]] == [1, 2]
    picture = cells[2].outputs[0]
    assert "image/png" in picture.data and picture.metadata == {"image/png": {"alt": "A line.", "width": 200}}
    assert b"execution" not in once.replace(b"execution_count", b"") and b"version" not in once.replace(b"nbformat", b"")


def test_a_notebook_that_fails_keeps_its_file(tmp_path, capsys):
    path = write(tmp_path / "01_a.ipynb", "print(1)", "1 / 0")
    before = path.read_bytes()
    assert main(["--folder", str(tmp_path), "01"]) == 1
    assert path.read_bytes() == before and "01_a.ipynb was not written: ZeroDivisionError" in capsys.readouterr().err


def test_a_kernel_that_dies_is_told(tmp_path):
    path = write(tmp_path / "01_a.ipynb", "import os\nos._exit(1)")
    with pytest.raises(UserError, match=r"01_a.ipynb was not written: .*[Kk]ernel died"):
        execute(path)


def test_only_what_every_reader_can_see_is_kept():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider(value=1)"}
    svg = {"image/svg+xml": "<svg/>"}
    outputs = [
        new_output("stream", text="a"), new_output("stream", text="b"), new_output("stream", name="stderr", text="c"),
        new_output("display_data", data=widget), new_output("display_data", data=svg),
        new_output("execute_result", data={"text/plain": "1"}, execution_count=17),
    ]  # fmt: skip
    cell = new_code_cell(
        "1",
        outputs=outputs,
        execution_count=17,
        metadata={"tags": ["b", "a"], "execution": {"iopub.execute_input": "now"}, "trusted": True},
    )
    notebook = new_notebook(
        cells=[cell],
        metadata={
            "widgets": {},
            "kernelspec": {"name": "mine", "display_name": "Mine"},
            "language_info": {"name": "python", "version": "3.11.1"},
        },
    )
    normalise(notebook)
    assert [(o.get("text"), o.get("data")) for o in cell.outputs] == [
        ("ab", None), ("c", None), (None, {"text/plain": "IntSlider(value=1)"}), (None, {"text/plain": "1"}),
    ]  # fmt: skip
    assert cell.execution_count == cell.outputs[-1].execution_count == 1 and cell.metadata == {"tags": ["a", "b"]}
    assert notebook.metadata.kernelspec["name"] == "python3" and set(notebook.metadata) == {"kernelspec", "language_info"}


def test_a_new_cell_changes_no_others_id():
    before, after = cell_ids(["a", "b", "b"]), cell_ids(["new", "a", "b", "b"])
    assert after[1:] == before and len(set(after)) == 4


def test_names_choose_notebooks_with_their_solutions(tmp_path):
    for name in ("01_a", "02_b", "solutions/01_a"):
        write(tmp_path / f"{name}.ipynb")
    assert [path.relative_to(tmp_path).as_posix() for path in find(tmp_path, [])] == ["01_a.ipynb", "solutions/01_a.ipynb", "02_b.ipynb"]
    assert [path.parent.name for path in find(tmp_path, ["01"])] == [tmp_path.name, "solutions"]
    with pytest.raises(UserError, match="begins with '07'; there are: 01_a, 02_b"):
        find(tmp_path, ["07"])
