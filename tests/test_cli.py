"""The command line as it is typed, above all when it is mistyped: one clear message, exit code 2, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semmim_mini import cli
from semmim_mini.config import Config, override, to_yaml

REPOSITORY = Path(cli.__file__).resolve().parents[1]
SMALL = [
    *("data.resolution=16", "data.batch_size=4", "data.train_size=8", "data.vocab_size=300", "image.width=16", "image.depth=2"),
    *("image.heads=2", "image.inject_from=1", "text.width=16", "text.depth=1", "text.fusion_depth=1", "text.heads=2"),
    *("space.prototypes=8", "space.hidden=16", "space.bottleneck=8", "losses.queue=8", "run.steps=2", "run.eval_size=4"),
    *("optim.lr=0.001", "optim.lr_end=0.0001"),
]


def typed(command: str, out: Path, *settings: str, more: list[str] = ()) -> list[str]:
    """The arguments as a list, with the smallest sizes there are."""
    return [command, "--out", str(out), *more, *(word for setting in (*SMALL, *settings) for word in ("--set", setting))]


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def refused(arguments: list[str], capsys) -> str:
    """Runs what should fail; returns the one message."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("semmim-mini: ") and "Traceback" not in said.err
    return said.err


def test_help_lists_the_commands_without_loading_torch():
    code = "import sys; from semmim_mini.cli import build_parser; build_parser().print_help(); print('torch' in sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "pretrain", "bench", "check"):
        assert command in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_help_and_version_as_typed():
    assert python("-m", "semmim_mini.cli", "pretrain", "--help").stdout.startswith("usage: semmim-mini pretrain")
    assert python("-m", "semmim_mini.cli", "--version").stdout.strip().count(".") == 2


def test_a_mistake_as_typed_leaves_no_traceback(tmp_path):
    done = python("-m", "semmim_mini.cli", "pretrain", "--out", str(tmp_path / "run"), "--set", "masking.rato=0.4")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "semmim-mini: masking.rato is no setting; did you mean ratio?\n"


def test_check_finds_this_machine_complete():
    done = python("-m", "semmim_mini.cli", "check")
    assert done.returncode == 0, done.stdout
    assert "work together" in done.stdout and "precision auto means" in done.stdout


@pytest.mark.parametrize("wrong", [[], ["pretrain"], ["paint"], ["pretrain", "--out"]])
def test_arguments_that_argparse_refuses(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(wrong)
    assert stopped.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("masking.ratio=1.5", "masking.ratio=(1.5, 1.5) is impossible"),
        ("data.resolution=20", "must be a multiple of image.patch=8"),
        ("losses.queue=2", "must be 0 or at least data.batch_size=4"),
        ("image.isolation=forked", "choose one of none, mask, fork"),
        ("image.width=wide", "image.width"),
        ("losses.mim=off", "losses.mim"),
        ("maskin.ratio=0.5", "did you mean masking?"),
        ("run.steps", "has no '='"),
        ("data.source=coco", "it takes one of these forms: scenes, flickr8k:DIR"),
        ("data.source=flickr8k:no/such/folder", "the Flickr8k folder no/such/folder does not exist"),
        ("data.report_split=exam", "exam"),
        ("data.train_size=3", "fewer than data.batch_size=4"),
        ("run.precision=fp16", "run.precision='fp16' needs a GPU"),
        ("data.vocab_size=10", "data.vocab_size=10 is too small"),
    ],
)
def test_a_value_that_cannot_be(setting, message, tmp_path, capsys):
    import torch

    if "fp16" in setting and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert message in refused(typed("pretrain", tmp_path / "run", setting), capsys)
    assert not (tmp_path / "run").exists()  # nothing to clean up before the next try


def test_an_unknown_preset(tmp_path, capsys):
    message = refused(typed("demo", tmp_path / "run", more=["--preset", "huge"]), capsys)
    assert "'huge'" in message and "tiny, mini, small, base" in message


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"data: [", b"- 1\n", b"speed: 11\n"])
def test_a_configuration_file_that_is_none(content, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    refused(["pretrain", "--out", str(tmp_path / "run"), "--config", str(file)], capsys)


def test_two_answers_to_one_question(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(to_yaml(Config()), encoding="utf-8")
    more = ["--config", str(tmp_path / "config.yaml"), "--preset", "tiny"]
    assert "give one of them" in refused(typed("pretrain", tmp_path / "run", more=more), capsys)


def test_a_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    assert "taken" in refused(typed("pretrain", tmp_path / "taken"), capsys)
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


@pytest.fixture
def used(tmp_path) -> Path:
    """A folder that looks like a run with one checkpoint; what is read before a refusal is there."""
    run = tmp_path / "run"
    step = run / "checkpoints" / "step-000001"
    step.mkdir(parents=True)
    text = to_yaml(override(Config(), SMALL))
    for folder in (run, step):
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    (run / "checkpoints" / "last").write_text("step-000001", encoding="utf-8")
    return run


def test_a_used_folder_is_not_written_over(used, capsys):
    before = sorted(used.rglob("*"))
    assert "already holds a run; add --resume" in refused(typed("pretrain", used), capsys)
    assert sorted(used.rglob("*")) == before


def test_resuming_nothing(tmp_path, capsys):
    for more in (["--resume"], ["--resume", "--preset", "tiny"]):
        assert "holds no run to resume" in refused(typed("pretrain", tmp_path / "none", more=more), capsys)


def test_resuming_with_other_settings_lists_them_all(used, capsys):
    message = refused(typed("pretrain", used, "optim.lr=0.5", "masking.ratio=0.9", "data.workers=1", more=["--resume"]), capsys)
    assert "optim.lr: 0.001 → 0.5" in message
    assert "masking.ratio: (0.3, 0.3) → (0.9, 0.9)" in message
    assert "data.workers" not in message  # changes nothing that is computed


def test_ctrl_c_before_training_has_its_exit_code(monkeypatch, tmp_path, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_configuration", interrupted)
    assert cli.main(typed("pretrain", tmp_path / "run")) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_bench_refuses_a_file_it_could_not_write(tmp_path, capsys):
    message = refused(["bench", "--out", str(tmp_path / "no" / "bench.json")], capsys)
    assert "give a file name in a folder that exists" in message


def test_bench_prints_and_writes_the_same_figures(tmp_path, capsys):
    arguments = ["bench", *(word for setting in SMALL for word in ("--set", setting)), "--out", str(tmp_path / "bench.json")]
    assert cli.main(arguments) == 0
    said, figures = capsys.readouterr().out, json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert f"{figures['full_over_itc']:.2f} times a step of ITC alone" in said
    for part in figures["parts"]:
        assert part in said


def test_bench_without_growth_says_all_but_growth(tmp_path, capsys):
    arguments = ["bench", "--no-growth", *(word for setting in SMALL for word in ("--set", setting)), "--out", str(tmp_path / "bench.json")]
    assert cli.main(arguments) == 0
    said, figures = capsys.readouterr().out, json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert "growth" not in figures and "ideal is growth" not in said
    assert "full step" in said and "samples/s" in said
