"""`semmim-mini check` on machines that lack something, each made by taking one thing away from this one."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from semmim_mini import check

REPOSITORY = Path(check.__file__).resolve().parents[1]
GOOD_PROBE = {"torch": "2.9", "torchvision": "0.24", "threads": 1, "cuda": False, "device": "", "bf16": False, "mps": False,
              "processor_bf16": False, "precision": "fp32", "because": "a processor"}  # fmt: skip


@pytest.fixture
def without_probe(monkeypatch):
    """Importing torch in a process of its own takes seconds; one test elsewhere does it."""
    monkeypatch.setattr(check, "probe", lambda: (GOOD_PROBE, ""))


def test_everything_here(without_probe, capsys):
    assert check.run_check() == 0
    said = capsys.readouterr().out
    assert "everything required is here" in said
    assert "sample pictures in" in said and "HF_HUB_OFFLINE=1" in said


def test_a_missing_package_is_named_with_the_command_that_installs_it(without_probe, capsys, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "einops":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert check.run_check() == 1
    said = capsys.readouterr().out
    assert "missing  einops is not installed (needs >=0.8,<1)" in said
    assert 'pip install "einops>=0.8,<1"' in said
    assert "1 required thing(s) missing" in said


@pytest.mark.parametrize(
    ("found", "state"), [("2.6.0", "ok"), ("2.5.1", "missing"), ("3.0", "missing"), ("2.7.0+cu118", "ok"), ("2.8.0.dev1", "ok")]
)
def test_versions_are_compared_as_versions(found, state, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: found)
    assert check.requirement("torch>=2.6,<3").state == state


def test_a_requirement_without_a_range_needs_only_to_be_there(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1")
    assert check.requirement("tqdm").state == "ok"
    assert check.requirement('tomli>=2; python_version < "3.11"').state == "missing"  # the marker is no part of the range


def test_torch_and_torchvision_that_do_not_match(monkeypatch):
    bad = {key: value for key, value in GOOD_PROBE.items() if key != "torchvision"}
    monkeypatch.setattr(check, "probe", lambda: (bad | {"torchvision_error": "operator torchvision::nms does not exist"}, ""))
    first = next(check.torch_findings())
    assert first.state == "missing"
    assert "operator torchvision::nms does not exist" in first.what and "in one command" in first.remedy


def test_torch_that_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(check, "PROBE", "import no_such_library")
    found, reason = check.probe()
    assert found is None and "no_such_library" in reason
    (finding,) = check.torch_findings()
    assert finding.state == "missing" and "torch torchvision" in finding.remedy


def test_torch_that_crashes_takes_nothing_with_it(monkeypatch):
    monkeypatch.setattr(check, "PROBE", "import os; os.abort()")
    found, reason = check.probe()
    assert found is None and reason


def test_the_choice_of_precision_is_told_for_a_gpu(monkeypatch):
    gpu = GOOD_PROBE | {"cuda": True, "device": "A GPU", "bf16": True, "precision": "bf16", "because": "it can"}
    monkeypatch.setattr(check, "probe", lambda: (gpu, ""))
    said = "\n".join(map(str, check.torch_findings()))
    assert "GPU: A GPU, with bf16" in said and "precision auto means bf16: it can" in said


@pytest.mark.parametrize(("processor", "gpu", "told"), [(True, False, True), (False, False, False), (True, True, False)])
def test_a_processor_with_bf16_is_pointed_out_where_it_would_compute(monkeypatch, processor, gpu, told):
    monkeypatch.setattr(check, "probe", lambda: (GOOD_PROBE | {"processor_bf16": processor, "cuda": gpu}, ""))
    assert ("run.precision=bf16" in "\n".join(map(str, check.torch_findings()))) == told


def test_the_probe_knows_whether_this_processor_computes_in_bf16():
    found, reason = check.probe()
    assert found is not None, reason
    if Path("/proc/cpuinfo").is_file() and hasattr(torch.cpu, "get_capabilities"):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
        assert found["processor_bf16"] == any(name in flags for name in ("avx512_bf16", "amx_bf16"))


def test_an_empty_samples_folder(monkeypatch):
    from semmim_mini.data import cutouts
    from semmim_mini.errors import UserError

    def nothing():
        raise UserError("the embedded data is missing")

    monkeypatch.setattr(cutouts, "samples_folder", nothing)
    assert check.samples().state == "missing"


def test_a_missing_extra_is_a_note():
    missing, *_ = check.extras({"course": ["no-such-package>=1"]})
    assert missing.state == "note" and missing.remedy == 'pip install "no-such-package>=1"'


def test_java_that_is_not_there_is_a_note(monkeypatch):
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    *_, java = check.extras({})
    assert java.state == "note" and "METEOR" in java.what


def test_requirements_of_an_installed_package(monkeypatch, tmp_path):
    # No pyproject.toml beside an installed package: the same lists come from its metadata.
    monkeypatch.setattr(check, "__file__", str(tmp_path / "semmim_mini" / "check.py"))
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch<3,>=2.6", 'nbval>=0.11; extra == "course"'])
    project = check.read_project()
    assert project["dependencies"] == ["torch<3,>=2.6"]
    assert project["optional-dependencies"]["course"] == ["nbval>=0.11"]


def test_nothing_but_python_is_needed():
    # -S leaves out every installed package; the answer is a list, not a traceback.
    done = subprocess.run([sys.executable, "-S", "-m", "semmim_mini.cli", "check"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1 and done.stderr == ""
    assert "missing  torch is not installed" in done.stdout
    assert "the sample pictures cannot be read yet" in done.stdout
