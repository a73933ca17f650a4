"""Annotated source: what a docstring becomes, and which words stand beside which lines."""

import ast
from pathlib import Path

import pytest

import semmim_mini
from semmim_mini.site.annotate import annotate, as_markdown
from semmim_mini.site.prose import docstring, github

MODULE = '''r"""Twice, with a sign.

$$ y = -2x $$
"""

import math


def twice(x: float) -> float:
    """Says what it does, at τ_s [F: DINO].

    Args:
        x: a number
            of any size.
        y, z: none.

    Raises:
        ValueError: never.
    """
    y = 2 * x  # stays here
    # Why the sign changes:
    # nobody knows.
    return -y


# afterwards -----------------------------------------------------------------------------------------------------------


# Above a class.
class Sign:
    """Of a number."""

    value: int

    def __call__(
        self,
    ):
        # Below a signature.
        return self
'''


@pytest.fixture
def module():
    return annotate(MODULE)


def test_a_module_by_hand(module):
    assert (module.summary, module.about) == ("Twice, with a sign.", "$$ y = -2x $$")
    rows = [(row.name, row.code, row.header, row.part) for row in module.rows]
    assert rows == [
        ("", ["import math"], 0, False),
        ("twice", ["def twice(x: float) -> float:", "    y = 2 * x  # stays here"], 1, False),
        ("", ["    return -y"], 0, False),
        ("", [], 0, True),
        ("Sign", ["class Sign:", "    value: int"], 0, False),
        ("Sign.__call__", ["    def __call__(", "        self,", "    ):", "        return self"], 3, False),
    ]  # fmt: skip
    assert [row.prose for row in module.rows[2:]] == [
        "Why the sign changes:\nnobody knows.", "afterwards", "Above a class.\n\nOf a number.", "Below a signature.",
    ]  # fmt: skip


def test_a_drawing_alone_below_the_first_line_keeps_its_indentation():
    assert annotate('"""One.\n\n    a ─► b\n"""').about == "~~~text\na ─► b\n~~~"


def test_args_become_a_list(module):
    assert module.rows[1].prose == (
        'Says what it does, at τ<sub>s</sub> <span class="label">[F: DINO]</span>.\n\n'
        "**Args**\n\n- `x`: a number of any size.\n- `y, z`: none.\n\n**Raises**\n\n- `ValueError`: never."
    )


def test_the_page_has_words_beside_code(module):
    page = as_markdown(module.rows, lambda name: f"see {name}")
    assert page.startswith('<details class="imports" markdown="1">')
    assert "## afterwards {: .part }" in page
    columns = (
        '<div class="prose" markdown="1">\n\n### `Sign` {: #Sign }\n\nAbove a class.\n\nOf a number.\n\nsee Sign\n\n</div>\n'
        '<div class="code" markdown="1">\n\n~~~~~~python\nclass Sign:\n    value: int\n~~~~~~\n\n</div>'
    )
    assert f'<div class="row" markdown="1">\n{columns}\n</div>' in page


def test_names_lead_to_their_rows(module):
    assert [module.anchor(name) for name in ("twice", "Sign", "__call__", "Sign.__call__", "math", "")] == [
        "twice", "Sign", "Sign.call", "Sign.call", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(Path(semmim_mini.__file__).parent.glob("[mot]*/*.py")), ids=lambda path: path.name)
def test_nothing_of_a_module_is_lost(path):
    """What the rows show as code is the source, line by line, without docstrings and comments of full lines."""
    source = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node) is not None]
    said = {line for node in nodes for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    numbered = enumerate(source.splitlines(), start=1)
    left = [line for number, line in numbered if number not in said and line.strip() and not line.lstrip().startswith("#")]
    assert [line for row in annotate(source).rows for line in row.code if line.strip()] == left


# forms of docstrings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("One.\n\nTwo\nlines.", "One.\n\nTwo\nlines."),
        ("The idea [S]\n    Is this.\n    And that.", '**The idea <span class="label">[S]</span>**\n\nIs this.\nAnd that.'),
        ("The form\n$$ a\n  = b $$\nEnd.", "**The form**\n\n$$ a\n  = b $$\n\nEnd."),
        ("It goes so:\n    a ─► b\n\n    c", "It goes so:\n\n~~~text\na ─► b\n\nc\n~~~"),
        ("a ─► b\n     └► c", "~~~text\na ─► b\n     └► c\n~~~"),
        ("A.txt     one\nB.txt     two", "`A.txt`\n:   one\n\n`B.txt`\n:   two"),
        ("    pip install\n    more", "~~~text\npip install\nmore\n~~~"),
        ("    `a`  one\n         goes on\n    DIR/*.jpg   two", "`a`\n:   one goes on\n\n`DIR/*.jpg`\n:   two"),
        ("Returns:\n    The mean.", "**Returns**\n\nThe mean."),
        ("`x_i` and $x_i$ and x_i and my_x", "`x_i` and $x_i$ and x<sub>i</sub> and my_x"),
    ],
)
def test_forms(written, shown):
    assert docstring(written) == shown


def test_lists_and_tables_below_text_as_github_takes_them():
    page = "Goals\n- one\n  more\n- two\n| a |\n|---|\n```bash\ntext\n- no list\n```\n<details><summary>Hint</summary>"
    assert github(page) == (
        'Goals\n\n- one\n  more\n- two\n\n| a |\n|---|\n```bash\ntext\n- no list\n```\n<details markdown="1"><summary>Hint</summary>'
    )
