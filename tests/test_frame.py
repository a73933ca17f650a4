"""What surrounds the library tells the truth: commands, links, names, versions and settings in README, docs and project files."""

import os
import re
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import semmim_mini
from semmim_mini.config import Config, _flatten, override, to_dict

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "semmim_mini"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "data_samples" / "README.md"]
MAIN_JOB = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/semmim-mini demo --out runs/demo"
ABOUT_REPORTS = README.partition("### How to read report.json")[2].partition("\n## ")[0]
TESTS = 'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/python -m pytest -n 2 --dist loadfile --cov=semmim_mini'
NOT_OURS = {".git", ".venv", "runs", "build", "dist", "htmlcov", "__pycache__"}  # what tools and runs leave in a working copy
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$|^    [^\n]*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def links(page: Path) -> list[tuple[str, str]]:
    """(text, target) of every link that stays inside the repository."""
    found = re.findall(r"\[((?:\[[^\]]*\]|[^\[\]])*)\]\(([^)\s]+)\)", prose(page))
    return [(text, target) for text, target in found if not re.match(r"https?:", target)]


def our_files() -> list[Path]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name not in NOT_OURS and not name.endswith((".egg-info", "_cache")) and name != ".hypothesis"
        ]
        found += [Path(folder) / name for name in names if not name.startswith(".coverage")]
    return found


def code_modules() -> set[str]:
    """Modules that hold code: an `__init__.py` of one docstring needs no line in a map."""
    files = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8").splitlines() for path in PACKAGE.rglob("*.py")}
    return {name for name, lines in files.items() if not name.endswith("__init__.py") or len(lines) > 5}


# Commands -------------------------------------------------------------------------------------------------------------


def test_readme_gives_both_commands():
    lines = README.splitlines()
    assert MAIN_JOB in lines and TESTS in lines


def test_ci_runs_exactly_the_readmes_tests():
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#!") and TESTS in lines
    assert [line for line in lines if "pytest" in line and not line.startswith("#")] == [TESTS]
    assert "set -euo pipefail" in lines and script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_commands_in_readme_are_commands_of_the_program():
    from semmim_mini.cli import build_parser

    typed = [line.split("#")[0] for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines()]
    calls = [shlex.split(line.partition(name)[2]) for line in typed for name in ("semmim_mini.cli ", "semmim-mini ") if name in line]
    assert {words[0] for words in calls} >= {"demo", "pretrain"}
    for words in calls:
        build_parser().parse_args(words)


def test_no_number_is_left_open():
    assert "TODO" not in README


# Links, paths and names -----------------------------------------------------------------------------------------------


@pages
def test_links_lead_somewhere(page):
    for _, target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}, target


@pages
def test_paths_in_prose_exist(page):
    for span in spans(prose(page)):
        if re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*/?", span) and (span.endswith("/") or re.search(r"/.*\.(py|md|png|yml|toml|csv)$", span)):
            places = (page.parent, ROOT, PACKAGE)
            made_by_a_run = span in {"tokenizer/", "checkpoints/", "figures/"} or span.startswith(("runs/", ".venv/"))
            assert made_by_a_run or any((place / span).exists() for place in places), f"{page.name}: {span} does not exist"


@pages
def test_links_to_code_name_what_is_there(page):
    """`[file.py: one, other](path/file.py)` promises that the file defines both."""
    for text, target in links(page):
        file, colon, names = text.partition(": ")
        if colon and file.endswith(".py"):
            assert target.endswith("/" + file), f"{text} leads to {target}"
            source = (page.parent / target).read_text(encoding="utf-8")
            for name in names.split(", "):
                assert re.search(rf"^ *(def|class) {re.escape(name)}\b", source, flags=re.MULTILINE), f"{name} is not in {target}"


@pages
def test_settings_in_prose_are_settings(page):
    groups = "|".join(name for name, value in to_dict(Config()).items() if isinstance(value, dict))
    known = _flatten(to_dict(Config()))
    for span in spans(prose(page).replace(ABOUT_REPORTS, "")):  # whose parts have names in common with groups of settings
        for setting in re.findall(rf"(?:^|--set )((?:{groups})\.[a-z_.]+(?:=[^`]*?)?)(?= --set|$)", span):
            name, _, value = setting.partition("=")
            assert name in known, f"{page.name}: {name} is no setting"
            if value:
                override(Config(), [setting])


def test_the_map_names_every_module_and_no_other():
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", (ROOT / "docs" / "reading.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert listed == code_modules()


def test_ablations_can_be_typed():
    rows = re.findall(r"^\| (A\d\w?) \|.*\| (.*) \|$", (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [name for name, _ in rows] == [*(f"A{i}" for i in range(2)), "A1t", *(f"A{i}" for i in range(2, 9))]
    configs = {name: override(Config(), spans(settings)) for name, settings in rows}
    assert configs["A8"] == Config() and len(set(map(str, configs.values()))) == 10
    assert [name for name, config in configs.items() if config.masking.strategy == "text_high"] == ["A0", "A5", "A8"]
    assert [name for name, config in configs.items() if not config.space.shared] == ["A3"]


def test_labels_are_the_four():
    rows = re.findall(
        r"^\|(.+)\|$", (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").split("## Networks")[1], flags=re.MULTILINE
    )
    labels = [row.split("|")[1].strip() for row in rows if row.count("|") == 5]
    labels = [label for label in labels if label not in ("label", "---")]
    assert len(labels) > 35 and all(re.match(r"[SHFC](/[SH])?($|[ ,])", label) for label in labels)


# The report -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tiny) -> dict:
    from semmim_mini.data.sources import open_pairs
    from semmim_mini.data.text import train_wordpiece
    from semmim_mini.model.semmim import SemMIM
    from semmim_mini.report import make_report, run_facts
    from semmim_mini.training.loop import Finished

    config, pairs = tiny("data.max_length=24", "run.report_size=8"), open_pairs("scenes", "test", resolution=16, size=8)
    tokenizer = train_wordpiece((caption for i in range(8) for caption in pairs.captions(i)), 300)
    records = [{"patch_prototypes_used": 3.0, "cls_prototypes_used": 2.0, "itm_balanced_accuracy": 0.6}] * 20
    made = make_report(SemMIM(config, len(tokenizer)), tokenizer, pairs, records=records)
    return made | {"run": run_facts(config, Finished(1, False, 1.0, 1.0, "cpu", "fp32"), 1.0)}


def leaves(values: dict) -> set[str]:
    return {key for name, value in values.items() for key in (leaves(value) if isinstance(value, dict) else {name})}


def test_readme_explains_every_key_of_a_report(report):
    explained = {span.rpartition(".")[2] for span in spans(ABOUT_REPORTS)}
    assert leaves(report) - explained == set()
    assert set(report) - {span.partition(".")[0] for span in spans(ABOUT_REPORTS)} == set()


def test_readme_explains_no_key_that_is_not_there(report):
    for span in spans(ABOUT_REPORTS):
        part, dot, key = span.partition(".")
        assert key in report[part] if dot else span in leaves(report) | report.keys(), span


# Versions and what travels --------------------------------------------------------------------------------------------


def requirements() -> dict[str, Requirement]:
    """Everything that `pip install .[dev]` asks for by name."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines, todo = list(PROJECT["project"]["dependencies"]), ["dev"]
    while todo:
        for line in map(Requirement, extras[todo.pop()]):
            own = canonicalize_name(line.name) == PROJECT["project"]["name"]
            todo += line.extras if own else []
            lines += [] if own else [str(line)]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def test_the_environment_pins_every_requirement_inside_its_range_and_nothing_else():
    first, *_, last = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pins = {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, last["pip"])}
    wanted = requirements()
    assert pins.keys() == wanted.keys()
    for name, pin in pins.items():
        assert re.fullmatch(r"==[\d.]+", pin), f"{name}{pin} is not exact"
        assert wanted[name].specifier.contains(pin[2:]), f"{name}{pin} is outside {wanted[name]}"
    assert first == "python=3.11"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == semmim_mini.__version__ and citation["license"] == PROJECT["project"]["license"]
    assert citation["references"][0]["url"].endswith("2403.00249")


def test_every_package_and_the_sample_travel():
    tables = PROJECT["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in PACKAGE.rglob("__init__.py")}
    assert set(tables["packages"]) == folders | {"semmim_mini._samples"}
    assert tables["package-dir"] == {"semmim_mini._samples": "data_samples"}
    # Hidden files would stay behind.
    assert tables["package-data"] == {"semmim_mini._samples": ["**/*"], "semmim_mini.launch": ["*.yaml", "*.sh"]}
    assert {path.suffix for path in (PACKAGE / "launch").iterdir() if path.is_file()} == {".py", ".yaml", ".sh"}
    assert not [path for path in (ROOT / "data_samples").rglob(".*")]


def test_no_file_knows_where_it_was_written():
    homes = re.compile(rb"(?<![\w.~/])/(?:work|root|home/\w+|Users/\w+)(?=[/\s\"'`)]|$)|[A-Z]:\\Users\\\w")
    for path in our_files():
        found = homes.search(path.read_bytes())
        assert found is None, f"{path.relative_to(ROOT)} holds the path {found.group()!r}"
