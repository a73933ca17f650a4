"""JupyterLab as a student has it: opened in a real browser, all cells run by its menu, and the widgets moved by keyboard and mouse.

nbval runs the cells without any of this, so it cannot see an extension that is missing, a widget that is not drawn, or a slider that
moves nothing. Needs `pip install "semmim-mini[browser]"` and a Chromium or Chrome of the system; nothing is downloaded.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
CELLS = 300_000  # ms that all cells of a notebook may take
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"needs a browser: none of {', '.join(BROWSERS)} is in PATH"),
]
# The notebook in front, and its code cells. What is far from the window is not in the page, but it is here.
NOTEBOOK = "jupyterapp.shell.currentWidget"
CODE = f"[...{NOTEBOOK}.content.model.cells].filter(cell => cell.type === 'code')"
OUTPUTS = f"{CODE}.map(cell => cell.outputs.toJSON())"
FINISHED = f"{CODE}.every(cell => cell.executionCount !== null) && {NOTEBOOK}.sessionContext.session.kernel.status === 'idle'"
WIDGETS = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """The address of a JupyterLab over a copy of the course, with settings, kernels and temporary files of its own."""
    home = tmp_path_factory.mktemp("student")
    for name in ("notebooks", "docs"):
        shutil.copytree(ROOT / name, home / "kit" / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
    shutil.copy(ROOT / "README.md", home / "kit")
    own = {"HOME": home, "TMPDIR": home, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data"}
    own |= {"JUPYTER_RUNTIME_DIR": home / "runtime", "IPYTHONDIR": home / "ipython", "HF_HUB_OFFLINE": "1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root", "--expose-app-in-browser", "--IdentityProvider.token="]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={home / 'kit'}"]
    environment = {name: value for name, value in os.environ.items() if name != "SEMMIM_STATIC"} | {k: str(v) for k, v in own.items()}
    with (home / "log.txt").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home) as server:
        try:
            yield wait_for(f"http://127.0.0.1:{port}", server, home / "log.txt")
        finally:
            server.terminate()


def wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> str:
    """The address, as soon as somebody answers there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=5) as answer:
                return json.load(answer)["version"] and address
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'semmim-mini[browser]'")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def run_all(page, address: str, name: str) -> list[list[dict]]:
    """Open a notebook, clear it and run all its cells, as a student does; returns what each code cell shows then."""
    page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?reset")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    menu(page, "Edit", "Clear Outputs of All Cells")
    page.wait_for_function(f"() => {OUTPUTS}.every(outputs => outputs.length === 0)")
    menu(page, "Run", "Run All Cells")
    page.wait_for_function(f"() => {FINISHED}", timeout=CELLS, polling=500)
    return page.evaluate(f"() => {OUTPUTS}")


def menu(page, name: str, entry: str) -> None:
    page.locator(".lm-MenuBar-itemLabel").get_by_text(name, exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()


def complaints(outputs: list[list[dict]]) -> list[str]:
    """Errors, and whatever else reached stderr."""
    every = [output for shown in outputs for output in shown]
    errors = [f"{output['ename']}: {output['evalue']}" for output in every if output["output_type"] == "error"]
    return errors + [output["text"] for output in every if output.get("name") == "stderr"]


def shows(outputs: list[list[dict]], kind: str) -> int:
    """How many outputs have something of this kind."""
    return sum(kind in output.get("data", {}) for shown in outputs for output in shown)


def committed(name: str) -> list[list[dict]]:
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


def test_the_first_notebook_runs_and_trains(page, jupyter):
    outputs = run_all(page, jupyter, "00_welcome")
    assert complaints(outputs) == []
    assert shows(outputs, "image/png") == shows(committed("00_welcome"), "image/png") > 2


def test_the_explorer_reacts_to_keyboard_and_mouse(page, jupyter):
    outputs = run_all(page, jupyter, "05_text_guided_masking")
    assert complaints(outputs) == []
    # Where the committed file has the explorer's still picture, there are widgets now.
    assert shows(outputs, "image/png") == shows(committed("05_text_guided_masking"), "image/png") - 1
    assert shows(outputs, WIDGETS) == 1

    cell = next(i for i, shown in enumerate(outputs) if shows([shown], WIDGETS))
    page.evaluate(f"() => {NOTEBOOK}.content.scrollToItem({NOTEBOOK}.content.widgets.findIndex(w => w.model === {CODE}[{cell}]))")
    page.locator("img.widget-image, .jupyter-widgets-error-widget").first.wait_for()
    assert page.locator(".jupyter-widgets-error-widget").count() == 0
    picture = page.locator("img.widget-image")
    seen = [picture.get_attribute("src")]
    page.get_by_label("strategy").select_option("random")
    seen.append(next_picture(page, picture, seen[-1]))
    slider = page.locator(".widget-hslider", has_text="scene").locator(".noUi-handle")
    slider.focus()
    slider.press("ArrowRight")
    seen.append(next_picture(page, picture, seen[-1]))
    assert len(set(seen)) == 3


def next_picture(page, picture, before: str) -> str:
    """The source of the picture, once it is another: the kernel sends a picture when it differs, and each gets an address of its own."""
    page.wait_for_function("([image, before]) => image.src !== before", arg=[picture.element_handle(), before])
    return picture.get_attribute("src")
