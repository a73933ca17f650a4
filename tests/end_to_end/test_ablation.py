"""A comparison as a user types it: cells that are done are skipped, one that was stopped goes on, other settings are refused."""

import csv
import json
import os
import signal

import psutil
import pytest
from small_runs import settings, start, wait_for_steps

from semmim_mini import cli
from semmim_mini.ablation import driver
from semmim_mini.config import from_yaml
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Training


def ablate(out, *more: str) -> int:
    typed = [
        word
        for setting in settings({"run.steps": 2, "run.eval_every": 2, "run.report_size": 24, "data.max_length": 20})
        for word in ("--set", setting)
    ]
    return cli.main(["ablate", "--out", str(out), "--seeds", "1", "--task-steps", "2", *typed, *more])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation")
    assert ablate(out, "--rows", "A0,A0x,A8") == 0
    return out


def rows_of(out) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for line in csv.DictReader((out / "ablation.csv").open(encoding="utf-8")):
        found.setdefault(line["row"], {})[line["metric"]] = float(line["value"])
    return found


def test_every_row_has_its_figures_and_only_those(compared):
    found = rows_of(compared)
    assert list(found) == ["A0", "A0x", "A8"]
    common = {
        "r1_image_to_text",
        "r1_text_to_image",
        "vqa_accuracy",
        "cider",
        "pointing",
        "ami_features",
        "gflop_per_image",
        "training_seconds",
    }
    assert all(common <= figures.keys() for figures in found.values())
    own = {"ami", "loss_masked", "code_survives_caption_swap", "prototypes_used"}
    assert own <= found["A8"].keys() and not own & found["A0"].keys()
    assert found["A8"]["gflop_per_image"] > found["A0"]["gflop_per_image"] == found["A0x"]["gflop_per_image"]


def test_a_cell_is_a_folder_of_runs(compared):
    cell = compared / "cells" / "A8-seed0"
    assert json.loads((cell / "vqa" / "report.json").read_text(encoding="utf-8"))["task"] == "vqa"
    assert {"pretrain", "vqa", "captioning", "figures.json"} == {path.name for path in cell.iterdir()}


def test_what_is_done_is_not_done_again(compared, monkeypatch, capsys):
    before = (compared / "ablation.csv").read_bytes()
    monkeypatch.setattr(driver, "run_cell", lambda *a: pytest.fail("a finished cell ran again"))
    assert ablate(compared, "--rows", "A0,A0x,A8") == 0
    assert (compared / "ablation.csv").read_bytes() == before
    assert "3 of 3 cells are done" in capsys.readouterr().out


def test_a_stopped_comparison_goes_on_where_it_stopped(compared, tmp_path, monkeypatch, capsys):
    one_step = Training._one_step

    def stop_after_it(self, batch, step):
        self.stop_requested = True
        return one_step(self, batch, step)

    with monkeypatch.context() as stopping:
        stopping.setattr(Training, "_one_step", stop_after_it)
        assert ablate(tmp_path, "--rows", "A0") == 130
    assert "interrupted; everything is saved" in capsys.readouterr().out and not (tmp_path / "ablation.csv").exists()
    assert ablate(tmp_path, "--rows", "A0") == 0
    timed = {"training_seconds"}
    stopped, undisturbed = (rows_of(out)["A0"] for out in (tmp_path, compared))
    assert {k: v for k, v in stopped.items() if k not in timed} == {k: v for k, v in undisturbed.items() if k not in timed}


def test_cells_of_other_settings_are_refused(compared, capsys):
    (compared / "cells" / "A0-seed0" / "figures.json").rename(compared / "kept")
    (compared / "cells" / "A0-seed0" / "pretrain" / "report.json").rename(compared / "kept_report")
    assert ablate(compared, "--rows", "A0", "--set", "optim.lr=0.002") == 2
    assert "holds a run of other settings; choose another --out" in capsys.readouterr().err
    (compared / "kept").rename(compared / "cells" / "A0-seed0" / "figures.json")
    (compared / "kept_report").rename(compared / "cells" / "A0-seed0" / "pretrain" / "report.json")


def test_two_cells_at_a_time_give_the_same_figures(compared, tmp_path, monkeypatch):
    assert ablate(tmp_path, "--rows", "A0", "--jobs", "2", "--set", "run.eval_size=8") == 0
    one, other = (json.loads((out / "cells" / "A0-seed0" / "figures.json").read_text(encoding="utf-8")) for out in (compared, tmp_path))
    assert one["gflop_per_image"] == other["gflop_per_image"] and one["steps"] == other["steps"]
    assert (tmp_path / "cells" / "A0-seed0" / "output.txt").stat().st_size > 0


@pytest.fixture
def two_cells(tmp_path):
    """A comparison of four rows, two at a time, in the middle of its first two, and what its first process has started."""
    typed = settings({"run.steps": 5_000, "run.eval_every": 5_000, "run.save_every": 5_000, "data.max_length": 20})
    words = [word for setting in typed for word in ("--set", setting)]
    asked = ("ablate", "--out", str(tmp_path), "--seeds", "1", "--rows", "A0,A1,A2,A4", "--jobs", "2", *words)
    process = start("-m", "semmim_mini.cli", *asked, start_new_session=True)
    for row in ("A0", "A1"):
        wait_for_steps(process, tmp_path / "cells" / f"{row}-seed0" / "pretrain", 2, seconds=240)
    started = psutil.Process(process.pid).children(recursive=True)
    yield process, started
    for one in started:
        if one.is_running():
            one.kill()
    process.kill()


def to_the_first_process(process) -> None:
    process.send_signal(signal.SIGTERM)


def to_all_of_them(process) -> None:
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("ask", [to_the_first_process, to_all_of_them])
def test_cells_at_a_time_stop_together(two_cells, tmp_path, ask):
    process, started = two_cells
    ask(process)
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert "interrupted; everything is saved" in said
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == ["A0-seed0", "A1-seed0"]
    for cell in (tmp_path / "cells").iterdir():
        assert (cell / "pretrain" / "checkpoints" / "last").exists() and not (cell / "figures.json").exists()


def test_cells_whose_first_process_was_killed_save_and_end(two_cells, tmp_path):
    process, started = two_cells
    process.kill()
    _, left = psutil.wait_procs(started, timeout=120)
    assert not left
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == ["A0-seed0", "A1-seed0"]
    for cell in (tmp_path / "cells").iterdir():
        assert (cell / "pretrain" / "checkpoints" / "last").exists()


def test_a_killed_cell_is_told_with_the_remedy(two_cells):
    process, started = two_cells
    (cell, *_) = (one for one in started if "spawn_main" in " ".join(one.cmdline()))
    cell.kill()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2 and "Traceback" not in errors, errors
    assert "a process that trained a cell was killed, most often because memory ran out; lower --jobs=2" in errors


def test_rows_that_share_a_first_phase_differ_from_their_first_step(tmp_path, capsys):
    assert ablate(tmp_path, "--rows", "A0,A8", "--first-phase", "2") == 0
    first = tmp_path / "cells" / "first_phase-seed0"
    terms = {}
    for name in ("A0", "A8"):
        home = tmp_path / "cells" / f"{name}-seed0" / "pretrain"
        assert from_yaml((home / "config.yaml").read_text(encoding="utf-8")).task.checkpoint == str(first)
        terms[name] = set(read_metrics(home / "metrics.jsonl")[0]["loss"]) - {"caption"}
    assert terms == {"A0": {"itm", "mlm", "itc"}, "A8": {"mim", "consensus", "itm", "mlm", "itc"}}
    assert capsys.readouterr().out.count("training 2 steps") == 3 + 4  # the first phase once, two rows, two tasks of each
    assert ablate(tmp_path, "--rows", "A0,A8", "--first-phase", "3") == 2
    assert "holds a run of other settings" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--task-steps", "--jobs"])
def test_impossible_counts_are_refused(option, tmp_path, capsys):
    assert cli.main(["ablate", "--out", str(tmp_path), option, "-1"]) == 2
    assert f"{option}=-1 is impossible" in capsys.readouterr().err


def test_photos_are_compared_without_questions(photos, tmp_path, capsys):
    """By retrieval and cost alone: no objects are known, and nobody asks anything. Said before anything is trained."""
    typed = ("--rows", "A0", "--set", f"data.source=flickr8k:{photos}", "--set", "data.report_split=val")
    assert ablate(tmp_path / "out", *typed) == 2
    assert "--task-steps=2 needs questions, which 'flickr8k:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert ablate(tmp_path / "out", *typed, "--task-steps", "0") == 0
    cell = tmp_path / "out" / "cells" / "A0-seed0"
    assert [path.name for path in cell.iterdir() if path.is_dir()] == ["pretrain"]
    figures = json.loads((cell / "figures.json").read_text())
    assert {"r1_image_to_text", "gflop_per_image"} <= set(figures) and not {"pointing", "ami_within", "cider"} & set(figures)


def test_only_the_rows_that_were_named_are_fine_tuned(tmp_path):
    assert ablate(tmp_path, "--rows", "A0,A4", "--task-rows", "A0") == 0
    tasks = {row: sorted(path.name for path in (tmp_path / "cells" / f"{row}-seed0").iterdir() if path.is_dir()) for row in ("A0", "A4")}
    assert tasks == {"A0": ["captioning", "pretrain", "vqa"], "A4": ["pretrain"]}
    line = next(line for line in (tmp_path / "ablation.md").read_text(encoding="utf-8").splitlines() if line.startswith("| VQA"))
    assert line.split(" | ")[-1].strip(" |") == "–"


def test_rows_to_be_fine_tuned_must_be_run(tmp_path, capsys):
    assert ablate(tmp_path, "--rows", "A0", "--task-rows", "A8") == 2
    assert "--task-rows: A8 is not among --rows; name rows that are run" in capsys.readouterr().err
