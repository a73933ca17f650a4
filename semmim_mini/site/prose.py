r"""Docstrings, and Markdown as GitHub and Jupyter take it, as the Markdown of Python-Markdown.

| written here | on the site |
| --- | --- |
| a short line, and directly below it something indented or a formula | a heading and its body |
| indented: rows of a term, two spaces or more, its meaning | a list of terms |
| indented: whole sentences | a paragraph |
| indented: anything else, such as a drawing in characters | as it stands |
| `Args:`, `Returns:`, `Raises:` | lists |
| τ_t, [S] | a subscript, a label |
| a list or table directly below a line of text | what it is |
"""

import re
import textwrap
from collections.abc import Callable

DRAWN = re.compile(r"[─-◿→←{}]| && ")
SET = re.compile(r"\w.*[─-◿]|\w[^|]*\S   +\S")  # a line that is no running text, indented or not
ROW = re.compile(r"(\S.*?)  +(\S.*)")
SECTION = re.compile(r"(Args|Returns|Yields|Raises):")
ARGUMENT = re.compile(r"([\w*][\w*., ]*): (.*)")
ITEM = re.compile(r"\s*([-*]|\d+\.) ")
FENCED = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
LITERAL = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)|\$\$.+?\$\$|\$[^$\n]+\$", re.DOTALL)
LABEL = re.compile(r"\[[SHFC](?:[:;,/ ][^\[\]]*)?\](?!\()")
SUBSCRIPT = re.compile(r"(?<![\w`])([A-Za-zα-ω])_([a-z0-9])(?!\w)")


def docstring(text: str) -> str:
    """The Markdown of a docstring, cleaned as `inspect.cleandoc` does."""
    lines, blocks = text.splitlines(), []
    while lines:
        size = _size(lines)
        block, lines = lines[:size], lines[size:]
        if SECTION.fullmatch(block[0]):
            blocks.append(_section(block))
        elif block[0].startswith("    ") or SET.match(block[0]):
            blocks.append(_indented(textwrap.dedent("\n".join(block)).strip("\n")))
        elif size == 1 and lines and lines[0].startswith(("    ", "$$")) and block[0][-1:] not in (".", ":", ""):
            blocks.append(f"**{inline(block[0])}**")
        elif block[0].strip():
            blocks.append(inline("\n".join(block)))
    return "\n\n".join(blocks)


def _size(lines: list[str]) -> int:
    """How many of the first lines form one block."""
    first = lines[0]
    if not first.strip():
        return 1
    if first.startswith("$$"):
        return next((i for i, line in enumerate(lines, start=1) if line.endswith("$$") and (i > 1 or len(line) > 2)), len(lines))
    if SET.match(first):
        ends = (i for i, line in enumerate(lines) if not line.strip())
    elif first.startswith("    ") or SECTION.fullmatch(first):
        ends = (i for i, line in enumerate(lines) if i and line.strip() and not line.startswith("    "))
    else:
        ends = (i for i, line in enumerate(lines) if i and (not line.strip() or line.startswith(("    ", "$$"))))
    return next(ends, len(lines))


def _section(block: list[str]) -> str:
    """`Args:` and its like: an item for each `name: text`, and whatever else is said as it stands."""
    entries: list[str] = []
    for line in textwrap.dedent("\n".join(block[1:])).splitlines():
        if line[:1].isspace() and entries:
            entries[-1] += f" {line.strip()}"
        elif line.strip():
            found = ARGUMENT.fullmatch(line)
            entries.append(f"- `{found[1]}`: {found[2]}" if found else line)
    return f"**{block[0].rstrip(':')}**\n\n" + inline("\n".join(entries))


def _indented(block: str) -> str:
    lines = block.splitlines()
    if DRAWN.search(block) is None:
        if all(ROW.fullmatch(line) or (i and line[:1].isspace()) for i, line in enumerate(lines)):
            return _terms(lines)
        if block.endswith((".", ":")):
            return inline(block)
    return f"~~~text\n{block}\n~~~"


def _terms(lines: list[str]) -> str:
    """Rows as a definition list. A term that is no plain word is code: paths and patterns are full of Markdown's own characters."""
    entries: list[list[str]] = []
    for line in lines:
        if line[:1].isspace():
            entries[-1][1] += f" {line.strip()}"
        else:
            entries.append(list(ROW.fullmatch(line).groups()))
    spelt = ((term if re.fullmatch(r"[\w ,]+|.*`.*", term) else f"`{term}`", inline(meaning)) for term, meaning in entries)
    return "\n\n".join(f"{term}\n:   {meaning}" for term, meaning in spelt)


def inline(text: str) -> str:
    """Subscripts, and the labels of sources: [S], [F: ALBEF]."""
    return outside(LITERAL, text, lambda part: LABEL.sub(r'<span class="label">\g<0></span>', SUBSCRIPT.sub(r"\1<sub>\2</sub>", part)))


def outside(literal: re.Pattern, text: str, change: Callable[[str], str]) -> str:
    """`text` with everything changed that `literal` does not match."""
    parts, end = [], 0
    for found in literal.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def github(text: str) -> str:
    """A page with labels, a blank line before every list and table, and Markdown inside what folds out."""
    return outside(FENCED, text, lambda part: _spaced(inline(part)).replace("<details>", '<details markdown="1">'))


def _spaced(text: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        begins_list = ITEM.match(line) and not ITEM.match(before) and not before.startswith(" ")
        begins_table = line.startswith("|") and not before.startswith("|")
        lines += ["", line] if before.strip() and (begins_list or begins_table) else [line]
    return "\n".join(lines)
