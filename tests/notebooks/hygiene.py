"""What a committed notebook must look like, as rules: each takes a notebook and returns its complaints.

nbval runs notebooks and compares what cells print. It is silent about everything here: a cell that was never run, a magic that does
not exist, an address that is printed, a picture that is no PNG. `test_notebooks_hygiene.py` applies every rule to every notebook, and
to a notebook that breaks it.
"""

import ast
import functools
import re
import socket
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "notebooks"
CHECK = "nbval-check-output"
FACTS, EXERCISES = 3, 3  # at least, per notebook
LINES, WIDTH = 12, 120  # of a code cell at most
BYTES = 1_000_000  # of a notebook at most
OURS = ("naive_", "student_")  # functions that may share a name with the library's
BARS = re.compile(r"\d+%\|[█▏▎▍▌▋▊▉ #]*\||it/s\]|\r|\x1b\[")
PATHS = re.compile(r"(?<![\w.~/])/(?:home|root|tmp|work|Users|usr|opt|var|mnt)/|[A-Z]:\\\\|~/")
STATED = re.compile(r"runs in (?:about )?\d+ minutes? on (?:a |one )?CPU", re.IGNORECASE)  # as notebooks/conftest.py reads it


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pages(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def printed(cell) -> str:
    """All text that a cell shows."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(texts)


def parsed(cell) -> ast.Module:
    """The cell as Python; nothing of a cell that is none, of which `is_plain_python` speaks."""
    try:
        return ast.parse(cell.source)
    except SyntaxError:
        return ast.Module([], [])


# The cells ------------------------------------------------------------------------------------------------------------


def is_run_from_top_to_bottom(notebook, path: Path) -> Iterator[str]:
    """Unrun and stripped cells pass nbval without any comparison."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != number:
            yield f"code cell {number} has the execution count {cell.execution_count}"
        speaks = re.search(r"^(print|show|display)\(", cell.source, flags=re.MULTILINE)
        if (speaks or CHECK in cell.metadata.get("tags", [])) and not cell.outputs:
            yield f"code cell {number} shows something and has no output"


def is_plain_python(notebook, path: Path) -> Iterator[str]:
    """A bad %magic passes silently; a trailing ; is ignored and shows what it should hide."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for line in cell.source.splitlines():
            if re.match(r"\s*[%!?]|.*\?$", line):
                yield f"code cell {number} has a magic or shell line: {line.strip()}"
            if line.split("#")[0].rstrip().endswith(";"):
                yield f"code cell {number} ends a line with a semicolon: {line.strip()}"
        if not parsed(cell).body:
            yield f"code cell {number} is empty, or no Python"


def has_short_cells(notebook, path: Path) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if len(lines) > LINES:
            yield f"code cell {number} has {len(lines)} lines, more than {LINES}"
        yield from (f"code cell {number} has a line of {len(line)} characters" for line in lines if len(line) > WIDTH)


def defines_nothing_twice(notebook, path: Path) -> Iterator[str]:
    """The library's classes and functions are imported. A twin for teaching is called naive_…, a student's answer student_…."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for node in ast.walk(parsed(cell)):
            names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                if not name.startswith(OURS):
                    known = f"; the library has one in {library()[name]}" if name in library() else ""
                    yield f"code cell {number} defines {name}{known}: call it naive_… or student_…, or import it"


@functools.cache
def library() -> dict[str, str]:
    """Every function and class at the top of a module of the library, and its module."""
    found = {}
    for file in sorted((ROOT / "semmim_mini").rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = file.relative_to(ROOT).as_posix()
    return found


def takes_no_name_of_the_library(notebook, path: Path) -> Iterator[str]:
    """`show = …` would hide the library's function from all cells below."""
    imported = set()
    for number, cell in enumerate(code_cells(notebook), start=1):
        for node in ast.walk(parsed(cell)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("semmim_mini"):
                imported |= {alias.asname or alias.name for alias in node.names}
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in imported:
                yield f"code cell {number} gives the imported name {node.id} another meaning"


def sets_its_seed(notebook, path: Path) -> Iterator[str]:
    if "torch.manual_seed(" not in code_cells(notebook)[0].source:
        yield "the first code cell does not set torch.manual_seed"


# The outputs ----------------------------------------------------------------------------------------------------------


def shows_only_text_and_png(notebook, path: Path) -> Iterator[str]:
    """PNG is never compared, SVG always differs; widgets and progress bars differ in every run; errors are defects."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {number} ends with {output.ename}"
            if output.get("name") == "stderr":
                yield f"code cell {number} writes to stderr: {output.text.strip()[:80]}"
            strange = set(output.get("data", {})) - {"text/plain", "text/html", "text/markdown", "image/png"}
            if strange:
                yield f"code cell {number} shows {', '.join(sorted(strange))}"
            if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt"):
                yield f"code cell {number} shows a picture without words for who cannot see it; use course.pictures.show"
        if BARS.search(printed(cell)):
            yield f"code cell {number} shows a progress bar or terminal codes"


def prints_nothing_of_one_machine(notebook, path: Path) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        text = printed(cell)
        if found := re.search(r" at 0x[0-9a-f]+|object at ", text):
            yield f"code cell {number} prints an address: {found.group()}"
        if found := PATHS.search(text):
            yield f"code cell {number} prints a path of this machine: {found.group()}"
        if len(socket.gethostname()) > 3 and re.search(rf"\b{re.escape(socket.gethostname())}\b", text):
            yield f"code cell {number} prints the name of this machine"


def checks_facts(notebook, path: Path) -> Iterator[str]:
    """What an unanswered exercise prints is no fact; in solutions, that an answer is right is one."""
    checked = [cell for cell in code_cells(notebook) if CHECK in cell.metadata.get("tags", [])]
    facts = [cell for cell in checked if printed(cell).strip() and "no answer yet" not in printed(cell)]
    if len(facts) < FACTS:
        yield f"{len(facts)} checked facts, fewer than {FACTS}: give the tag {CHECK} to cells that print them"
    for cell in checked:
        if re.search(r"\d+\.\d{4,}", printed(cell)):
            yield f"a checked cell prints more digits than other machines share: {printed(cell).strip()[:60]}"


def is_normalised(notebook, path: Path) -> Iterator[str]:
    """As `python -m semmim_mini.course.execute` leaves it: nothing in the file tells when or where it was run."""
    import copy

    import nbformat

    from semmim_mini.course.execute import normalise

    clean = copy.deepcopy(notebook)
    normalise(clean)
    if nbformat.writes(clean) != nbformat.writes(notebook):
        yield "the file is not as the execute command writes it; run python -m semmim_mini.course.execute"
    if path.stat().st_size > BYTES:
        yield f"the file has {path.stat().st_size:,} bytes, more than {BYTES:,}"


# The text -------------------------------------------------------------------------------------------------------------


def has_living_links(notebook, path: Path) -> Iterator[str]:
    for page in pages(notebook):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", page, flags=re.DOTALL)):
            if re.match(r"https://", target):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            if not there.exists():
                yield f"the link {target} leads nowhere"
            elif anchor and anchor not in anchors(there):
                yield f"{file or path.name} has no heading #{anchor}"


def anchors(file: Path) -> set[str]:
    """The anchors of the headings of a page: as GitHub makes them for Markdown, as Jupyter does for notebooks."""
    if file.suffix == ".ipynb":
        import nbformat

        text = "\n".join(pages(nbformat.read(file, as_version=4)))
        return {heading.strip().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def says_what_it_is_for(notebook, path: Path) -> Iterator[str]:
    """Goals, time and part of the paper at the beginning; summary, what may differ, and what is next at the end."""
    first, last = notebook.cells[0].source, notebook.cells[-1].source
    solution = path.parent.name == "solutions"
    title = rf"# Solutions to {path.name[:2]} · " if solution else rf"# {path.name[:2]} · "
    if not re.match(title, first):
        yield f"the first cell does not begin with {title!r}"
    if not STATED.search(first):
        yield "the first cell does not say `runs in N minutes on one CPU core`"
    wanted = () if solution else ("You will be able to", "| Time |", "| Paper |", "GPU")
    yield from (f"the first cell lacks {words!r}" for words in wanted if words not in first)
    yield from (f"the last cell lacks {words!r}" for words in ("Summary", "What may differ on your machine", "Next") if words not in last)


def has_exercises_as_cards(notebook, path: Path) -> Iterator[str]:
    """A card says how hard, how long and why; hints fold out; the next cell has the student's function and its checker."""
    number = int(path.name[:2])
    cards = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown" and "### Exercise" in cell.source]
    solution = path.parent.name == "solutions"
    if 1 <= number <= 12 and len(cards) < EXERCISES:
        yield f"{len(cards)} exercises, fewer than {EXERCISES}"
    for i in cards:
        card = notebook.cells[i].source.partition("### Exercise ")[2]
        name = card.splitlines()[0]
        if not re.match(rf"{number}\.\d+ · .+", name):
            yield f"the heading of exercise {name!r} is not {number}.1 · Its title"
        if not solution and not re.search(r"\| difficulty \| minutes \| why it matters \|\n\|[-| ]+\|\n\| [●○]{3} \| \d+ \| .+ \|", card):
            yield f"exercise {name} has no card: difficulty, minutes, why it matters"
        if not solution and "<details><summary>" not in card:
            yield f"exercise {name} has no hint to fold out"
        cell = notebook.cells[i + 1] if i + 1 < len(notebook.cells) else None
        if cell is None or not re.search(r"^def student_", cell.source, re.MULTILINE) or not re.search(r"^check_\w+\(", cell.source, re.M):
            yield f"exercise {name} is not followed by a cell with student_… and check_…"


def asks_before_it_answers(notebook, path: Path) -> Iterator[str]:
    """A question in its own paragraph, before the code whose output answers it."""
    text = "\n".join(pages(notebook))
    if path.parent.name != "solutions" and text.count("> **Question.**") < 3:
        yield "fewer than three questions (`> **Question.** …`) before their answers"


RULES = (
    is_run_from_top_to_bottom, is_plain_python, has_short_cells, defines_nothing_twice, takes_no_name_of_the_library, sets_its_seed,
    shows_only_text_and_png, prints_nothing_of_one_machine, checks_facts, is_normalised, has_living_links, says_what_it_is_for,
    has_exercises_as_cards, asks_before_it_answers,
)  # fmt: skip
