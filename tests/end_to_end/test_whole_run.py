"""One run from the command line to its report, on scenes and on photos: what the README promises is there."""

import json
import math
from pathlib import Path

import pytest
from small_runs import TERMS, changed, metrics, settings, train

from semmim_mini import cli
from semmim_mini.config import differences, from_yaml
from semmim_mini.data.text import load_tokenizer
from semmim_mini.training.checkpoint import find, load_tensors
from semmim_mini.training.logbook import read_metrics

PROMISED = {
    "retrieval": {"image_to_text", "text_to_image", "n_images", "n_texts", "chance_r1"},
    "masking": {"named_text", "named_random", "object_text", "object_random"},
    "semantics": {"ami", "ami_random_init", "ami_pixel_kmeans", "ami_picture_number", "ami_within", "alike_across"},
    "mim": {
        *("loss_masked", "loss_shuffled_caption", "loss_all_masked", "loss_all_masked_shuffled_caption", "loss_marginal"),
        "code_survives_caption_swap",
    },
    "matching": {"balanced_accuracy", "chance"},
    "collapse": {"teacher_entropy", "max_entropy", "prototypes_used", "prototypes_used_cls"},
    "run": {"seconds", "images_per_second", "steps", "seed", "preset", "device", "precision"},
}


def pretrain(folder, **changes) -> int:
    typed = settings({name.replace("__", "."): value for name, value in changes.items()})
    return cli.main(["pretrain", "--out", str(folder), *(word for setting in typed for word in ("--set", setting))])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "run"
    assert pretrain(folder) == 0
    return folder


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def test_every_step_has_a_line_with_every_loss(run):
    records = read_metrics(run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(6))
    for record in records:
        assert set(record["loss"]) == set(record["chance"]) == set(TERMS)
        assert all(math.isfinite(value) and value > 0 for value in record["loss"].values())
        assert record["grad_norm"] > 0 and record["images_per_second"] > 0


def test_chance_stands_beside_every_loss(run):
    for step, record in enumerate(read_metrics(run / "metrics.jsonl")):
        # Keys of ITC: the batch of 8, and what earlier batches left in a queue of 16.
        assert record["chance"]["itc"] == pytest.approx(math.log(8 + min(8 * step, 16)), abs=1e-4)
        assert record["chance"]["mim"] == record["chance"]["consensus"] == pytest.approx(math.log(16))


def test_masks_turn_from_random_to_guided_once(run):
    assert [record["random_mask"] for record in metrics(run)] == [True, True, False, False, False, False]


def test_the_folder_holds_what_it_takes_to_go_on(run):
    for name in ("config.yaml", "tokenizer/tokenizer.json", "checkpoints/last", "checkpoints/best"):
        assert (run / name).is_file(), name
    assert (run / "checkpoints" / "last").read_text(encoding="utf-8") == "step-000006"
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("part", PROMISED)
def test_the_report_has_what_is_promised(report, part):
    missing = PROMISED[part] - set(report[part])
    assert not missing
    if part == "retrieval":
        for way in ("image_to_text", "text_to_image"):
            assert 0 <= report[part][way]["r1"] <= report[part][way]["r5"] <= report[part][way]["r10"] <= 1


def test_references_that_are_known_beforehand(report):
    assert report["retrieval"]["chance_r1"] == pytest.approx(1 / report["retrieval"]["n_images"], abs=1e-5)
    assert report["collapse"]["max_entropy"] == pytest.approx(math.log(16), abs=1e-4)
    assert 0 < report["collapse"]["prototypes_used"] <= 16
    assert report["run"]["steps"] == 6 and report["run"]["precision"] == "fp32"
    assert 0 <= report["mim"]["loss_marginal"] <= report["collapse"]["max_entropy"] + 1e-4


def test_matching_is_of_the_last_tenth_of_the_steps(run, report):
    last = read_metrics(run / "metrics.jsonl")[-1]  # six steps: a tenth is one
    assert report["matching"] == {"balanced_accuracy": pytest.approx(last["itm_balanced_accuracy"], abs=1e-5), "chance": 0.5}


def test_the_report_is_plain_json(run):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON number")

    json.loads((run / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_figures_are_drawn(run):
    pictures = list((run / "figures").glob("*.png"))
    assert pictures and all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_report_measures_the_last_checkpoint_anew(run, report, tmp_path, capsys):
    from semmim_mini.report import summary

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert cli.main(["report", str(run), "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert again.pop("checkpoint") == 6
    assert again == {part: values for part, values in report.items() if part != "run"}  # only timing is the run's own
    assert capsys.readouterr().out == summary(again) + "\n"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_figures_are_drawn_anew_somewhere_else(run, tmp_path, capsys):
    before = json.loads((run / "figures" / "figures.json").read_text(encoding="utf-8"))
    assert cli.main(["figures", str(run), "--out", str(tmp_path / "drawn")]) == 0
    assert json.loads((tmp_path / "drawn" / "figures.json").read_text(encoding="utf-8")) == before
    assert {Path(line) for line in capsys.readouterr().out.splitlines()} == set((tmp_path / "drawn").iterdir())


def test_report_reads_the_best_checkpoint_a_checkpoint_folder_and_other_pairs(run, report):
    from semmim_mini.experiment import report_on

    best = (run / "checkpoints" / "best").read_text(encoding="utf-8")
    assert report_on(run, "best")["checkpoint"] == int(best.removeprefix("step-"))
    folder = report_on(run / "checkpoints" / "step-000006", split="test_pictures")
    assert folder["checkpoint"] == 6 and folder["pairs"] == "scenes/test_pictures" != report["pairs"]
    assert "patch_codes_per_batch_early" not in folder["collapse"]  # a checkpoint alone knows nothing of its run


def test_pretraining_that_begins_with_the_weights_of_another_run(run, tmp_path, capsys):
    again = ["pretrain", "--checkpoint", str(run), "--out", str(tmp_path / "more"), "--set", "run.steps=1"]
    assert cli.main(again) == 0
    assert f"from the weights of {run}" in capsys.readouterr().out
    before, after = (from_yaml((folder / "config.yaml").read_text(encoding="utf-8")) for folder in (run, tmp_path / "more"))
    assert differences(before, after) == ["run.steps: 6 → 1", f"task.checkpoint: '' → '{run}'"]
    one, other = (load_tensors(find(folder)) for folder in (run, tmp_path / "more"))
    name = "student.text.bert.encoder.layer.0.attention.self.query.weight"
    assert 0 < (one[name] - other[name]).abs().max() < 0.05  # one step away, not at first values
    one, other = (load_tokenizer(folder / "tokenizer").get_vocab() for folder in (run, tmp_path / "more"))
    assert one == other


@pytest.mark.parametrize("which", ["last", "best"])
def test_report_without_a_checkpoint_says_what_it_needs(tmp_path, capsys, which):
    assert cli.main(["report", str(tmp_path), "--checkpoint", which]) == 2
    said = capsys.readouterr()
    assert f"{tmp_path} holds no {which} checkpoint; give a run folder made by pretrain" in said.err and not said.out


def test_report_on_pairs_that_there_are_none_of(run, capsys):
    assert cli.main(["report", str(run), "--split", "exam"]) == 2
    assert "exam" in capsys.readouterr().err


def test_photos_report_without_the_truth_that_they_lack(photos, tmp_path, capsys):
    assert pretrain(tmp_path / "run", data__source=f"flickr8k:{photos}", run__steps=2) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["retrieval"]["n_images"] == 8 and report["retrieval"]["n_texts"] == 16
    assert "masking" not in report and "semantics" not in report
    assert "12.50%" in capsys.readouterr().out  # chance stands beside the result


def test_the_smallest_objective_runs_alone(small, tmp_path):
    off = [f"losses.{term}.weight=0" for term in TERMS if term != "itc"]
    train(changed(small, "run.steps=2", "masking.relevance=cross", *off), tmp_path)
    assert all(set(record["loss"]) == {"itc"} for record in metrics(tmp_path))


def test_terms_join_at_their_step(small, tmp_path):
    train(changed(small, "losses.mim.start=0.5", "losses.consensus.start=0.5"), tmp_path)
    joined = [("mim" in record["loss"], "consensus" in record["loss"]) for record in metrics(tmp_path)]
    assert joined == 3 * [(False, False)] + 3 * [(True, True)]


def test_recomputing_activations_changes_no_loss(small, tmp_path):
    for name, recompute in (("kept", "false"), ("recomputed", "true")):
        train(changed(small, "run.steps=3", f"run.checkpoint_activations={recompute}"), tmp_path / name)
    for kept, recomputed in zip(metrics(tmp_path / "kept"), metrics(tmp_path / "recomputed"), strict=True):
        assert recomputed["loss"] == pytest.approx(kept["loss"], rel=1e-5)


def test_bf16_stays_near_fp32(small, tmp_path):
    # bf16 keeps 8 bits: one part in 256 for each number. Losses average many, and random masks keep the two on one path.
    plain = changed(small, "run.steps=2", "masking.strategy=random", "space.init=random")
    for precision in ("fp32", "bf16"):
        train(changed(plain, f"run.precision={precision}"), tmp_path / precision)
    for full, half in zip(metrics(tmp_path / "fp32"), metrics(tmp_path / "bf16"), strict=True):
        assert half["loss"] == pytest.approx(full["loss"], rel=0.05)
        assert half["loss"] != full["loss"]  # autocast was on
