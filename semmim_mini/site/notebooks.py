"""A notebook as a page: its text, code and outputs as they are committed.

    text       Markdown
    code       a block of Python
    outputs    blocks of text, and pictures as files of their own
    sections   what stands below one heading, with the functions and classes of the library that its code uses

Nothing is run: the tests have done that, and what is committed is what they saw.
"""

import ast
import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import nbformat
from pymdownx.slugs import slugify

from semmim_mini.site.prose import FENCED

LIBRARY = "semmim_mini"
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
slug = slugify(case="lower")


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as the site's Markdown makes it."""
    return slug(re.sub(r"[`*]", "", heading), "-")


@dataclass
class Section:
    title: str
    text: list[str] = field(default_factory=list)  # Markdown: the heading, then cell by cell
    uses: dict[str, set[str]] = field(default_factory=dict)  # module ► names of it in the code

    @property
    def anchor(self) -> str:
        return anchor_of(self.title)


@dataclass
class NotebookPage:
    sections: list[Section]
    pictures: dict[str, bytes]  # by their paths beside the page

    @property
    def title(self) -> str:
        return self.sections[0].title

    def as_markdown(self, below: Callable[[Section], str]) -> str:
        """The page; `below(section)` stands below each heading."""
        pieces = (piece for s in self.sections for piece in (s.text[0], below(s), *s.text[1:]))
        return "\n\n".join(piece for piece in pieces if piece)


def read_notebook(text: str, folder: str) -> NotebookPage:
    """Cut a notebook into sections. Its pictures get names in `folder`; it has to begin with a heading."""
    page, known = NotebookPage([], {}), {}
    for number, cell in enumerate(nbformat.reads(text, as_version=4).cells, start=1):
        if cell.cell_type == "markdown":
            for heading, body in _pieces(cell.source):
                if heading:
                    page.sections.append(Section(heading.lstrip("# "), [heading]))
                page.sections[-1].text.append(body.strip("\n"))
        elif cell.cell_type == "code":
            section = page.sections[-1]
            section.text += [f"~~~~~~python\n{cell.source}\n~~~~~~", *_outputs(cell, f"{folder}/{number}", page.pictures)]
            for module, name in _used(cell.source, known):
                section.uses.setdefault(module, set()).add(name)
    return page


def _pieces(source: str) -> Iterator[tuple[str, str]]:
    """(heading, what stands below it); the first heading is empty if the text begins without one."""
    fenced = [range(*found.span()) for found in FENCED.finditer(source)]
    headings = [found for found in HEADING.finditer(source) if not any(found.start() in span for span in fenced)]
    ends = [*(found.start() for found in headings), len(source)]
    if ends[0]:
        yield "", source[: ends[0]]
    for found, end in zip(headings, ends[1:], strict=True):
        yield found[0], source[found.end() : end]


def _outputs(cell, name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for number, output in enumerate(cell.outputs):
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            shown = output.metadata.get("image/png", {})
            path = f"{name}-{number}.png"
            pictures[path] = base64.b64decode(data["image/png"])
            width = f'{{ width="{shown["width"]}" }}' if "width" in shown else ""
            yield f"![{shown.get('alt', '')}]({path}){width}"
        elif "text/markdown" in data:
            yield data["text/markdown"]
        elif data["text/plain"].strip():
            yield f"~~~~~~{{ .text .output }}\n{data['text/plain'].rstrip()}\n~~~~~~"


def _used(source: str, known: dict[str, tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(module, name) of everything imported from the library, here or in an earlier cell, that this cell reads; `known` is kept up."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(LIBRARY):
            known.update({alias.asname or alias.name: (node.module, alias.name) for alias in node.names})
    read = (node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    yield from sorted({known[name] for name in read if name in known})
