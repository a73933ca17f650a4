r"""One command regenerates all notebooks, and leaves no difference when it runs twice.

    python -m semmim_mini.course.execute            all of notebooks/ and notebooks/solutions/
    python -m semmim_mini.course.execute 01 02      those whose names begin so, with their solutions

Notebooks are committed with their outputs, so that they can be read without running anything. What would differ from run to run is
fixed (CPU, one thread, hash seed) or left out (times, versions, widget state, random cell ids). A notebook that fails keeps its file.
"""

import argparse
import hashlib
import os
import sys
import time
from collections import Counter
from pathlib import Path

from semmim_mini.errors import UserError

# Of every kernel that makes or checks outputs. No GPU: the same configuration and seed give the same bits on one CPU only.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "SEMMIM_STATIC": "1",  # explorers show a picture: widget state would differ in every run
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CELL_TIMEOUT = 600  # seconds; far above any cell's stated time, and the end of one that hangs
KEPT_OF_PICTURES = ("alt", "width")
KEPT_KINDS = ("image/png", "text/plain", "text/html", "text/markdown")  # no widget state, no SVG


def execute(path: Path) -> float:
    """Run a notebook in a fresh kernel and write it back with its outputs; returns the seconds it took.

    Raises:
        UserError: a cell failed; the file is as it was.
    """
    import nbformat

    from semmim_mini.training.checkpoint import write_text

    notebook = nbformat.read(path, as_version=4)
    began = time.perf_counter()
    _run(notebook, path)
    normalise(notebook)
    write_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")
    return time.perf_counter() - began


def _run(notebook, path: Path) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name=KERNEL["name"], record_timing=False, store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    try:
        client.execute(env=os.environ | ENVIRONMENT)
    except CellExecutionError as error:
        raise UserError(f"{path.name} was not written: {error.ename}: {error.evalue}\n{error.traceback}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise UserError(f"{path.name} was not written: {error}") from None
    except AssertionError as error:  # what nbclient 0.11 raises while it clears up after a kernel that died
        raise UserError(f"{path.name} was not written: its kernel died; is there enough memory?") from error


def normalise(notebook) -> None:
    """Take out, in place, all that differs between two runs of the same notebook, or that only one machine knows."""
    notebook.metadata = type(notebook.metadata)(kernelspec=KERNEL, language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell, name in zip(notebook.cells, cell_ids([cell.source for cell in notebook.cells]), strict=True):
        cell.id = name
        cell.metadata = type(cell.metadata)({"tags": sorted(tags)} if (tags := cell.metadata.get("tags")) else {})
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        cell.outputs = _joined([output for output in cell.outputs if _keep(output)])
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number


def cell_ids(sources: list[str]) -> list[str]:
    """An id for each cell from its text (and, for equal texts, their order): a new cell changes no other's."""
    seen, ids = Counter(), []
    for source in sources:
        digest = hashlib.blake2b(source.encode(), digest_size=4).hexdigest()
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _keep(output) -> bool:
    """Whether something of this output stays; of those that stay, only what every reader can see."""
    if output.output_type not in ("display_data", "execute_result"):
        return True
    output.data = type(output.data)({kind: output.data[kind] for kind in KEPT_KINDS if kind in output.data})
    png = output.metadata.get("image/png", {})
    kept = {name: png[name] for name in KEPT_OF_PICTURES if name in png}
    output.metadata = type(output.metadata)({"image/png": kept} if kept else {})
    return bool(output.data)


def _joined(outputs: list) -> list:
    """Neighbouring pieces of one stream as one: where the kernel cut it is chance."""
    joined: list = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and joined and joined[-1].output_type == "stream" and joined[-1].name == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def find(folder: Path, names: list[str]) -> list[Path]:
    """Notebooks whose file names begin with one of `names` (all without any), each before its solutions."""
    every = sorted((*folder.glob("*.ipynb"), *(folder / "solutions").glob("*.ipynb")), key=lambda path: (path.name, len(path.parts)))
    for name in names:
        if not any(path.name.startswith(name) for path in every):
            known = ", ".join(path.stem for path in sorted(folder.glob("*.ipynb")))
            raise UserError(f"no notebook in {folder} begins with {name!r}; there are: {known or 'none'}")
    return [path for path in every if not names or path.name.startswith(tuple(names))]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.course.execute", description="Execute the course's notebooks in place.")
    parser.add_argument("names", nargs="*", help="beginnings of file names, such as 01; default: all")
    parser.add_argument("--folder", type=Path, default=Path("notebooks"), help="where the notebooks are (default: notebooks)")
    given = parser.parse_args(arguments)
    try:
        for path in find(given.folder, given.names):
            print(f"{path.relative_to(given.folder)} … ", end="", flush=True)
            print(f"{execute(path):.0f} s", flush=True)
    except UserError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
