r"""A module as an annotated page: what docstrings and comments say stands beside the code they speak of.

    def f(x):                        ┌───────────────────┬────────────────────┐
        '''Says what it does.'''     │ f                 │ def f(x):          │
        y = 2 * x            ─────►  │ Says what it does.│     y = 2 * x      │
        # Why the sign changes.      ├───────────────────┼────────────────────┤
        return -y                    │ Why the sign …    │     return -y      │
                                     └───────────────────┴────────────────────┘

Nothing is written twice: the page is cut from the source. A row begins at every function, method and class, and at every comment that
has its lines to itself. Comments behind code stay there.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, takewhile

from semmim_mini.site.prose import docstring

RULED = re.compile(r"(.+?) -{5,}")  # a comment that divides a module into parts


@dataclass
class Row:
    """What stands beside what."""

    name: str = ""  # of the function or class that begins here, with its class: Attention.project
    prose: str = ""  # Markdown
    code: list[str] = field(default_factory=list)
    header: int = 0  # lines of code that are the signature; 0 for a class
    part: bool = False  # the prose is the heading of a part

    @property
    def anchor(self) -> str:
        return self.name.replace("__", "")  # which would be bold in Markdown


@dataclass
class Annotated:
    """A module, cut up."""

    summary: str  # first paragraph of the module's docstring
    about: str  # the rest, as Markdown
    rows: list[Row]

    def anchor(self, name: str) -> str:
        """Where a function, class or method stands, by its own name alone; nothing if it is not here."""
        return next((row.anchor for row in self.rows if row.name in (name, f"{row.name.rpartition('.')[0]}.{name}")), "")


def annotate(source: str) -> Annotated:
    """Cut a module into rows. Their code, put together, is the source without docstrings and without comments of full lines."""
    tree = ast.parse(source)
    summary, _, about = (ast.get_docstring(tree, clean=False) or "").strip("\n").partition("\n\n")
    comments, silent = _comments(source)
    beginnings = comments | dict(_definitions(tree, "", silent))
    docstrings = {line for node in ast.walk(tree) for line in _docstring_lines(node)}
    rows = [Row()]
    for number, line in enumerate(source.splitlines(), start=1):
        if number in beginnings:
            _begin(rows, beginnings[number])
        if number not in silent | docstrings and (line or number - 1 not in docstrings):
            rows[-1].code.append(line)
    for row in rows:
        row.code = "\n".join(row.code).strip("\n").splitlines()
    return Annotated(summary.replace("\n", " "), docstring(about), [row for row in rows if row.name or row.prose or row.code])


def _begin(rows: list[Row], fresh: Row) -> None:
    """Append `fresh`, or make it one with the row above: a comment directly over a definition, or directly below its signature."""
    above = rows[-1]
    if not above.name and not above.part and not "".join(above.code).strip():
        rows.pop()
        fresh.prose = _paragraphs(above.prose, fresh.prose)
    elif not fresh.name and not fresh.part and above.header and len(above.code) == above.header:
        above.prose = _paragraphs(above.prose, fresh.prose)
        return
    rows.append(fresh)


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


def _comments(source: str) -> tuple[dict[int, Row], set[int]]:
    """Rows that begin with a comment of one or more full lines, by their first line; and all lines of such comments."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")]
    texts = {token.start[0]: token.string.removeprefix("#").removeprefix(" ") for token in comments}
    parts = {number: found[1] for number, text in texts.items() if (found := RULED.fullmatch(text))}
    plain = texts.keys() - parts.keys()
    rows = {number: Row(prose=text, part=True) for number, text in parts.items()}
    for number in plain:
        if number - 1 not in plain:
            rows[number] = Row(prose=docstring("\n".join(texts[line] for line in takewhile(plain.__contains__, count(number)))))
    return rows, set(texts)


def _definitions(node: ast.AST, inside: str, comments: set[int]) -> Iterator[tuple[int, Row]]:
    """Rows of all functions and classes by their first line. What is defined inside a function has no name that others could use."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text, local = ast.get_docstring(child), isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if text or not local:
                first = min(item.lineno for item in (child, *child.decorator_list))
                lines = max(len(set(range(first, child.body[0].lineno)) - comments), 1)
                header = 0 if isinstance(child, ast.ClassDef) else lines
                yield first, Row("" if local else f"{inside}{child.name}", docstring(text or ""), header=header)
            yield from _definitions(child, f"{inside}{child.name}.", comments)
        else:
            yield from _definitions(child, inside, comments)


def _docstring_lines(node: ast.AST) -> range:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
        return range(node.body[0].lineno, node.body[0].end_lineno + 1)
    return range(0)


def as_markdown(rows: list[Row], beside: Callable[[str], str]) -> str:
    """Rows in two columns. `beside(name)` is what stands below a name: where else it is spoken of."""
    return "\n\n".join(_row(row, beside) for row in rows)


def _row(row: Row, beside: Callable[[str], str]) -> str:
    if row.part:
        return f"## {row.prose} {{: .part }}"
    code = "~~~~~~python\n" + "\n".join(row.code) + "\n~~~~~~" if row.code else ""
    if not row.name and not row.prose:
        return f'<details class="imports" markdown="1"><summary>Imports and constants</summary>\n\n{code}\n\n</details>'
    title = f"### `{row.name}` {{: #{row.anchor} }}" if row.name else ""
    prose = _paragraphs(title, row.prose, beside(row.name) if row.name else "")
    columns = (f'<div class="{kind}" markdown="1">\n\n{text}\n\n</div>' for kind, text in (("prose", prose), ("code", code)))
    return "\n".join(('<div class="row" markdown="1">', *columns, "</div>"))
