"""The trained model that ships with the kit: it loads, its report is its own, and packing keeps what it should."""

import json

import pytest
import torch

from semmim_mini.config import from_yaml, override
from semmim_mini.course.checkpoint import course_folder, course_model, main, pack
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.sources import open_pairs
from semmim_mini.experiment import report_on, run_experiment
from semmim_mini.training import checkpoint
from semmim_mini.training.logbook import read_metrics

LIMIT = 20 * 2**20  # bytes of the whole folder


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((course_folder() / "report.json").read_text(encoding="utf-8"))


def test_it_is_small_and_has_its_whole_log():
    folder = course_folder()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < LIMIT
    config = from_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    assert [record["step"] for record in read_metrics(folder / "metrics.jsonl")] == list(range(config.run.steps))
    assert checkpoint.read_state(folder)["step"] == config.run.steps


def test_weights_take_half_the_room_and_compute_in_full_precision():
    stored = checkpoint.load_tensors(course_folder())
    assert {x.dtype for x in stored.values() if x.is_floating_point()} == {torch.float16}
    model, _ = course_model()
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training


def test_its_report_can_be_made_anew(report):
    again = report_on(course_folder())
    assert again["checkpoint"] == report["checkpoint"]
    for part in ("retrieval", "masking", "mim", "collapse", "semantics"):
        for name, value in _flat(again[part]).items():
            assert value == pytest.approx(_flat(report[part])[name], rel=0.05, abs=0.02 if part == "semantics" else 0.005), f"{part} {name}"


def test_it_learned_something(report):
    found, chance = report["retrieval"], report["retrieval"]["chance_r1"]
    assert min(found[way]["r1"] for way in ("image_to_text", "text_to_image")) > 25 * chance
    assert report["masking"]["named_text"] > 1.5 * report["masking"]["named_random"]
    assert report["mim"]["loss_masked"] < report["mim"]["loss_marginal"]


def _flat(values: dict, path: str = "") -> dict[str, float]:
    found = {}
    for key, value in values.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def test_a_run_is_packed_and_loads_like_any_checkpoint(tiny, tmp_path):
    config = override(tiny("data.max_length=24", "run.steps=2", "run.eval_size=8"), ["data.train_size=16", "data.vocab_size=300"])
    run_experiment(config, tmp_path / "run", say=lambda text: None, figures=False)
    pack(tmp_path / "run", tmp_path / "packed")
    whole, small = (checkpoint.load_tensors(folder) for folder in (checkpoint.find(tmp_path / "run"), tmp_path / "packed"))
    assert whole.keys() == small.keys()
    for name, x in whole.items():
        torch.testing.assert_close(small[name].to(x.dtype), x, rtol=1e-3, atol=1e-6)
    one, other = (json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8")) for name in ("run", "packed"))
    assert other["run"] == one["run"] and other["checkpoint"] == 2
    assert len(read_metrics(tmp_path / "packed" / "metrics.jsonl")) == 2


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "packed")]) == 2
    assert "cannot be packed" in (said := capsys.readouterr().err) and "holds no last checkpoint" in said


def test_its_scenes_are_those_of_the_kit(report):
    pairs = open_pairs("scenes", "test", resolution=16, size=1_000)
    assert isinstance(pairs, Pairs) and report["pairs"] == pairs.name
