"""Every notebook keeps every rule, and every rule notices a notebook that breaks it."""

import re

import hygiene
import nbformat
import pytest
from hygiene import CHECK, HOME, RULES
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted((*HOME.glob("*.ipynb"), *(HOME / "solutions").glob("*.ipynb")))
FIRST = """# 01 · Title

**You will be able to** do this.

| | |
|---|---|
| Time | an hour; runs in 1 minute on one CPU core. A GPU changes nothing |
| Paper | all of it |

> **Question.** One? > **Question.** Two? > **Question.** Three?"""
CARD = """### Exercise 1.{} · Its title

| difficulty | minutes | why it matters |
|---|---|---|
| ●○○ | 10 | because |

<details><summary>Hint</summary>

So.

</details>"""
ANSWER = "def student_answer():\n    ...\n\ncheck_answer(student_answer)"
LAST = "## Summary\n\n**What may differ on your machine.** Nothing. **Next:** that."


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(HOME).as_posix())
def test_notebook(path, rule):
    assert list(rule(nbformat.read(path, as_version=4), path)) == []


def test_there_are_notebooks_and_each_with_exercises_has_its_solutions():
    names = {path.name for path in HOME.glob("*.ipynb")}
    assert {path.name for path in (HOME / "solutions").glob("*.ipynb")} == {name for name in names if headings(HOME / name)}
    assert names


def headings(path) -> list[str]:
    return re.findall(r"^### (Exercise .+)$", "\n".join(hygiene.pages(nbformat.read(path, as_version=4))), flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted((HOME / "solutions").glob("*.ipynb")), ids=lambda path: path.name)
def test_solutions_answer_all_exercises_and_all_are_right(path):
    assert headings(path) == headings(HOME / path.name)
    answers = [cell for cell in hygiene.code_cells(nbformat.read(path, as_version=4)) if re.search(r"^check_", cell.source, re.MULTILINE)]
    assert len(answers) == len(headings(path))
    assert all(": right, in" in hygiene.printed(cell) and CHECK in cell.metadata.tags for cell in answers)


# The rules themselves -------------------------------------------------------------------------------------------------


def said(text: str):
    return new_output("stream", text=text)


@pytest.fixture
def good(tmp_path):
    """A notebook that keeps all rules, and a way to break it: `good(change)` → complaints by rule."""

    def build():
        facts = [
            new_code_cell("print(1)", metadata={"tags": [CHECK]}, execution_count=i, outputs=[said("1\n")])
            for i in range(2, 2 + hygiene.FACTS)
        ]
        answers = []
        for i in range(hygiene.EXERCISES):
            cell = new_code_cell(ANSWER, execution_count=2 + hygiene.FACTS + i, outputs=[said("Exercise: no answer yet\n")])
            answers += [new_markdown_cell(CARD.format(i + 1)), cell]
        first = "import torch\n\n_ = torch.manual_seed(0)"
        questions = FIRST.replace(" > **", "\n\n> **")
        cells = [new_markdown_cell(questions), new_code_cell(first, execution_count=1), *facts, *answers, new_markdown_cell(LAST)]
        from semmim_mini.course.execute import normalise

        notebook = new_notebook(cells=cells)
        normalise(notebook)
        return notebook

    def broken(change=lambda notebook: None) -> dict[str, list[str]]:
        notebook, path = build(), tmp_path / "01_title.ipynb"
        change(notebook)
        nbformat.write(notebook, path)
        return {rule.__name__: found for rule in RULES if (found := list(rule(notebook, path)))}

    return broken


def test_a_good_notebook_has_nothing_to_complain_of(good):
    assert good() == {}


def source(text, cell=1):
    """Another source for a code cell; the first has no output."""

    def change(notebook):
        hygiene.code_cells(notebook)[cell].source = text

    return change


def output(**values):
    """Another output of the second code cell."""

    def change(notebook):
        hygiene.code_cells(notebook)[1].outputs = [nbformat.v4.new_output(**values)]

    return change


def drop(what):
    def change(notebook):
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = cell.source.replace(what, "")

    return change


def unrun(notebook):
    hygiene.code_cells(notebook)[2].update(execution_count=None, outputs=[])


def swapped(notebook):
    cells = hygiene.code_cells(notebook)
    cells[1].execution_count, cells[2].execution_count = 3, 2


def stripped(notebook):
    hygiene.code_cells(notebook)[1].outputs = []


def untagged(notebook):
    hygiene.code_cells(notebook)[1].metadata.tags = []


def timed(notebook):
    hygiene.code_cells(notebook)[1].metadata["execution"] = {"iopub.status.busy": "2020-01-01T00:00:00Z"}


def huge(notebook):
    hygiene.code_cells(notebook)[1].outputs[0].text = "1\n" * 600_000


def linked(target):
    return lambda notebook: notebook.cells[0].update(source=notebook.cells[0].source + f"\n\n[there]({target})")


@pytest.mark.parametrize(
    ("rule", "change", "complaint"),
    [
        ("is_run_from_top_to_bottom", unrun, "execution count None"),
        ("is_run_from_top_to_bottom", swapped, "execution count 3"),
        ("is_run_from_top_to_bottom", stripped, "has no output"),
        ("is_plain_python", source("%matplotlib inline"), "magic"),
        ("is_plain_python", source("!ls"), "magic"),
        ("is_plain_python", source("torch.manual_seed(0);"), "semicolon"),
        ("is_plain_python", source(" "), "is empty"),
        ("has_short_cells", source("x = 1\n" * 13), "13 lines"),
        ("has_short_cells", source("x = '" + 130 * "y" + "'"), "136 characters"),
        ("defines_nothing_twice", source("def patch_objects():\n    pass"), "semmim_mini/data/scene_truth.py"),
        ("defines_nothing_twice", source("class Attention:\n    pass"), "semmim_mini/model/layers.py"),
        ("defines_nothing_twice", source("mask_tokens = lambda x: x"), "semmim_mini/data/text.py"),
        ("takes_no_name_of_the_library", source("from semmim_mini.course.pictures import show\nshow = 1"), "another meaning"),
        ("sets_its_seed", source("import torch", 0), "manual_seed"),
        ("shows_only_text_and_png", output(output_type="display_data", data={"image/svg+xml": "<svg/>"}), "svg"),
        ("shows_only_text_and_png", output(output_type="display_data", data={"image/png": "aGVq"}), "without words"),
        ("shows_only_text_and_png", output(output_type="error", ename="ValueError", evalue="", traceback=[]), "ValueError"),
        ("shows_only_text_and_png", output(output_type="stream", name="stderr", text="a warning"), "stderr"),
        ("shows_only_text_and_png", output(output_type="stream", text=" 40%|████      | 4/10 [00:01<00:02, 3.1it/s]"), "progress bar"),
        ("prints_nothing_of_one_machine", output(output_type="stream", text="<Generator object at 0x7f00>"), "an address"),
        ("prints_nothing_of_one_machine", output(output_type="stream", text="saved in " + "/tm" + "p/x"), "a path"),
        ("prints_nothing_of_one_machine", output(output_type="stream", text="/ho" + "me/jane/runs"), "a path"),
        ("checks_facts", untagged, "2 checked facts"),
        ("checks_facts", output(output_type="stream", text="Exercise 1.1: no answer yet"), "2 checked facts"),
        ("checks_facts", output(output_type="stream", text="loss 1.23456"), "more digits"),
        ("is_normalised", timed, "execute"),
        ("is_normalised", huge, "bytes"),
        ("has_living_links", linked("nowhere.md"), "leads nowhere"),
        ("has_living_links", linked("#no-heading"), "no heading"),
        ("says_what_it_is_for", drop("# 01 · "), "does not begin"),
        ("says_what_it_is_for", drop("runs in 1 minute"), "runs in N minutes"),
        ("says_what_it_is_for", drop("| Paper |"), "Paper"),
        ("says_what_it_is_for", drop("What may differ on your machine"), "What may differ"),
        ("has_exercises_as_cards", drop("### Exercise 1.1"), "2 exercises"),
        ("has_exercises_as_cards", drop("| ●○○ | 10 | because |"), "no card"),
        ("has_exercises_as_cards", drop("<details><summary>"), "no hint"),
        ("has_exercises_as_cards", source("def answer():\n    pass", 1 + hygiene.FACTS), "not followed"),
        ("asks_before_it_answers", drop("> **Question.** Two?"), "three questions"),
    ],
)  # fmt: skip
def test_the_rule_notices(good, rule, change, complaint):
    complaints = good(change)
    assert any(complaint in text for text in complaints[rule]), complaints


def test_naive_twins_and_answers_may_share_a_name_with_nothing_else(good):
    assert "defines_nothing_twice" not in good(source("def naive_tokenize(x):\n    return x\n\ndef student_tokenize(x):\n    return x"))
