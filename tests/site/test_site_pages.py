"""The site of a small repository: links in both directions, notebooks as committed, formulas drawn, and a strict build."""

import base64
import re
from pathlib import Path

import nbformat
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from semmim_mini.errors import UserError
from semmim_mini.site.formulas import draw, typeset
from semmim_mini.site.notebooks import read_notebook
from semmim_mini.site.pages import Repository, navigation

ROOT = Path(__file__).resolve().parents[2]
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
FILES = {
    "README.md": "# Kit\n\nThe [licence](LICENSE), the [course](notebooks/01_one.ipynb), the [packages](semmim_mini/loss).\n",
    "LICENSE": "Free.",
    "docs/site.css": "",
    "docs/reading.md": "# Reading\n\n| module |\n|---|\n| `loss/mean.py` |\n",
    "docs/fidelity.md": "# Fidelity\n\n| part | code | tests |\n|---|---|---|\n"
    "| The mean | [loss/mean.py: mean, Mean](../semmim_mini/loss/mean.py) | [test_mean.py: test_mean](../tests/loss/test_mean.py) |\n",
    "semmim_mini/__init__.py": '"""The kit."""\n',
    "semmim_mini/loss/__init__.py": '"""Losses."""\n',
    "semmim_mini/loss/mean.py": 'r"""The mean.\n\n$$ \\bar x = \\frac{1}{n} \\sum_i x_i $$\n"""\n\n\n'
    'def mean(x):\n    """Of $x_i$."""\n    return sum(x) / len(x)\n\n\nclass Mean:\n    pass\n',
    "tests/loss/test_mean.py": '"""By hand."""\n\n'
    "from semmim_mini.loss.mean import mean\n\n\ndef test_mean():\n    assert mean([1, 3]) == 2\n",
    "tests/test_other.py": "from semmim_mini.loss import mean\n",
}
SHOWN = new_output(
    "display_data", data={"image/png": base64.b64encode(PNG).decode()}, metadata={"image/png": {"alt": "A dot.", "width": 9}}
)


def a_notebook():
    first = "# 01 · One\n\nGoals\n- means\n\nCode: [mean.py](../semmim_mini/loss/mean.py), back to [2](#2-·-Means,-again)."
    second = "## 2 · Means, again\n\n```\n# no heading\n```\n\nSo $\\tau_s$ is."
    return new_notebook(
        cells=[
            new_markdown_cell(first),
            new_code_cell("from semmim_mini.loss.mean import mean", execution_count=1),
            new_markdown_cell(second),
            new_code_cell("print(mean([1]))", execution_count=2, outputs=[new_output("stream", text="1.0\n"), SHOWN]),
        ]
    )


@pytest.fixture
def root(tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    nbformat.write(a_notebook(), tmp_path / "notebooks" / "01_one.ipynb")
    return tmp_path


def test_a_notebook_is_cut_into_sections_as_it_is():
    page = read_notebook(nbformat.writes(a_notebook()), "01_one")
    assert [(section.title, section.anchor, section.uses) for section in page.sections] == [
        ("01 · One", "01--one", {}),
        ("2 · Means, again", "2--means-again", {"semmim_mini.loss.mean": {"mean"}}),
    ]
    assert page.sections[1].text == [
        "## 2 · Means, again", "```\n# no heading\n```\n\nSo $\\tau_s$ is.", "~~~~~~python\nprint(mean([1]))\n~~~~~~",
        "~~~~~~{ .text .output }\n1.0\n~~~~~~", '![A dot.](01_one/4-1.png){ width="9" }',
    ]  # fmt: skip
    assert page.pictures == {"01_one/4-1.png": PNG}


def test_formula_source_test_and_notebook_lead_to_each_other(root):
    pages = Repository(root).site().pages
    source = pages["semmim_mini/loss/mean.md"]
    assert "- Tests: [test_mean.py](../../tests/loss/test_mean.md)" in source  # the mirrored one, and not all that import it
    assert "- Course: [01 · One](../../notebooks/01_one.md) ([2 · Means, again](../../notebooks/01_one.md#2--means-again))" in source
    assert "- Fidelity: [The mean](../../docs/fidelity.md#part-the-mean)" in source
    assert "- API: [semmim_mini.loss](../../api/loss.md#mean)" in source
    assert "Source: [loss/mean.py](../semmim_mini/loss/mean.md): [mean](../semmim_mini/loss/mean.md#mean)" in pages["notebooks/01_one.md"]
    assert "- Tests of: [loss/mean.py](../../semmim_mini/loss/mean.md)" in pages["tests/loss/test_mean.md"]
    row = "| The mean {: #part-the-mean } | [loss/mean.py](../semmim_mini/loss/mean.md): [mean](../semmim_mini/loss/mean.md#mean), "
    assert row + "[Mean](../semmim_mini/loss/mean.md#Mean) | [test_mean.py](../tests/loss/test_mean.md): " in pages["docs/fidelity.md"]


def test_paths_folders_and_anchors_of_jupyter_are_found(root):
    site = Repository(root).site()
    assert "[`loss/mean.py`](../semmim_mini/loss/mean.md)" in site.pages["docs/reading.md"]
    assert "[packages](semmim_mini/loss/index.md)" in site.pages["README.md"] and site.files == {"LICENSE"}
    assert "[mean.py](../semmim_mini/loss/mean.md)" in site.pages["notebooks/01_one.md"]
    assert "| [mean.py](mean.md) | The mean. |" in site.pages["semmim_mini/loss/index.md"]


def test_the_contents_take_what_is_there(root):
    contents = {title: pages for entry in navigation(Repository(root)) for title, pages in entry.items()}
    assert contents["Course"] == [{"01 · One": "notebooks/01_one.md"}, {"Solutions": []}]
    assert contents["Source"][2] == {"loss": ["semmim_mini/loss/index.md", {"mean.py": "semmim_mini/loss/mean.md"}]}


def made(root: Path) -> dict[str, str]:
    """The site as `mkdocs build --strict` makes it of a repository, with this project's own mkdocs.yml."""
    (root / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), encoding="utf-8")
    config = load_config(str(root / "mkdocs.yml"), strict=True, hooks=[str(ROOT / "semmim_mini" / "site" / "hooks.py")], watch=[])
    build(config)
    return {
        page.relative_to(root / "build/site").as_posix(): page.read_text(encoding="utf-8") for page in root.glob("build/site/**/*.html")
    }


def test_a_strict_build_draws_formulas_and_needs_no_network(root):
    pages = made(root)
    source = pages["semmim_mini/loss/mean.html"]
    assert source.count("<svg xmlns") >= 2 and "arithmatex" not in source and "$$" not in source
    assert source.index('<h3 id="mean">') < source.index('<div class="code">') < source.index('<span class="nf">mean</span>')
    assert 'aria-label="\\tau_s"' in pages["notebooks/01_one.html"] and "<li>means</li>" in pages["notebooks/01_one.html"]
    assert '<td id="part-the-mean">' in pages["docs/fidelity.html"]
    assert not [found for page in pages.values() for found in re.findall(r'(?:src|<link[^>]* href)="(?:https?:)?//', page)]
    assert (root / "build/site/notebooks/01_one/4-1.png").read_bytes() == PNG
    assert (root / "build/site/LICENSE").exists() and (root / "build/site/search/search_index.json").exists()


@pytest.mark.parametrize("link", ["[gone](docs/gone.md)", "[no such part](docs/fidelity.md#gone)"])
def test_a_dead_link_stops_the_build(root, link):
    (root / "README.md").write_text(f"# Kit\n\n{link}\n", encoding="utf-8")
    with pytest.raises(Abort, match="1 warnings in strict mode"):
        made(root)


def test_a_formula_that_cannot_be_drawn_stops_the_build_and_is_named(root, caplog):
    (root / "README.md").write_text("# Kit\n\n$\\gone$\n", encoding="utf-8")
    with pytest.raises(Abort):
        made(root)
    assert "README.md: the formula \\gone has \\gone, which ziamath does not know" in caplog.text


# formulas -------------------------------------------------------------------------------------------------------------


def test_formulas_have_the_size_of_the_text_and_stand_on_its_line():
    x, below = (float(re.search(r"vertical-align: (-?[\d.]+)em", draw(latex, inline=True))[1]) for latex in ("x", "x_y"))
    assert -0.1 < x < 0.1 and below < x - 0.05  # a subscript reaches below the line
    assert 'fill="currentColor"' in draw("x", inline=True) and 'role="img" aria-label="a &lt; b"' in draw("a < b", inline=False)


def test_only_what_is_marked_is_drawn():
    page = typeset(r'<p>costs 5 $ <span class="arithmatex">\(a &lt; b\)</span></p><div class="arithmatex">\[c\]</div>')
    assert page.startswith("<p>costs 5 $ <svg") and page.count("<svg") == 2 and '<div class="formula"><svg' in page


@pytest.mark.parametrize(
    ("latex", "message"), [(r"\frac{a}{", "is every bracket closed"), (r"\gone x", r"\\gone, which ziamath does not know")]
)
def test_what_cannot_be_drawn_is_said(latex, message):
    with pytest.raises(UserError, match=message):
        draw(latex, inline=False)


def test_what_is_rewritten_is_drawn():
    assert draw(r"\arg\max_j s_j", inline=True).count("<path") == len("argmaxjsj")
