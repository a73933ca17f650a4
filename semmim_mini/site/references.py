"""Who speaks of a module: its tests, sections of notebooks, and rows of the fidelity page.

    docs/fidelity.md ──► semmim_mini/objectives/agreement.py ◄── tests/objectives/test_agreement.py
                                       ▲
                                       └── notebooks/04_local_semantics.ipynb: 1 · Agreement: two views, one code

The arrows are links and imports that are there already; the site also shows them backwards.
"""

import ast
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from semmim_mini.site.links import repository_links
from semmim_mini.site.notebooks import NotebookPage, Section, anchor_of

PART = re.compile(r"^\| (?P<part>[^|]+?) (?P<rest>\|.*\]\(.*)$", re.MULTILINE)  # a row with links


@dataclass
class Mention:
    """A place in a notebook where a module is linked (no name) or something of it is used."""

    notebook: str
    section: str
    name: str = ""


@dataclass
class References:
    """Of one module."""

    tests: list[str] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # of docs/fidelity.md


def collect(
    root: Path, modules: Iterable[str], tests: Iterable[str], notebooks: dict[str, NotebookPage], fidelity: str
) -> dict[str, References]:
    """What is said of each module; all paths are those of the repository, and `fidelity` is the text of docs/fidelity.md."""
    found: dict[str, References] = defaultdict(References)
    files = {module.removesuffix(".py").removesuffix("/__init__").replace("/", "."): module for module in modules}
    imported = {test: _imports((root / test).read_text(encoding="utf-8"), files) for test in tests}
    for module in files.values():
        found[module].tests = tests_of(module, imported)
    for path, notebook in notebooks.items():
        for section in notebook.sections:
            _mentions(path, section, files, found)
    for row in PART.finditer(fidelity):
        for target in dict.fromkeys(repository_links(row["rest"], "docs")):
            found[target].parts.append(row["part"])
    return found


def tests_of(module: str, imported: dict[str, set[str]]) -> list[str]:
    """The tests of a module are in the folder that mirrors its own, and import it; if none is there, all that do. The namesake is first."""
    folder, name = posixpath.split(module.replace("semmim_mini", "tests", 1))
    users = sorted((test for test in imported if module in imported[test]), key=lambda test: (not test.endswith(f"_{name}"), test))
    return [test for test in users if posixpath.dirname(test) == folder] or users


def _imports(source: str, files: dict[str, str]) -> set[str]:
    """The modules of the library that a test imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {files[name] for name in names if name in files}


def _mentions(path: str, section: Section, files: dict[str, str], found: dict[str, References]) -> None:
    for module, names in section.uses.items():
        for name in sorted(names):
            whole = files.get(f"{module}.{name}")
            if whole or module in files:
                found[whole or files[module]].mentions.append(Mention(path, section.title, "" if whole else name))
    for target in dict.fromkeys(repository_links("\n".join(section.text), posixpath.dirname(path))):
        found[target].mentions.append(Mention(path, section.title))


def part_anchor(part: str) -> str:
    return f"part-{anchor_of(part)}"


def with_anchors(fidelity: str) -> str:
    """The fidelity page with an anchor in each row that leads to code."""
    return PART.sub(lambda row: f"| {row['part']} {{: #{part_anchor(row['part'])} }} {row['rest']}", fidelity)
