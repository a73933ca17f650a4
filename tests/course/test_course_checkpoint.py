"""The trained models that ship with the kit: they load, their reports are their own, and packing keeps what it should."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from semmim_mini.config import from_yaml, override
from semmim_mini.course.checkpoint import MINI, TINY, course_folder, course_model, main, pack
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError
from semmim_mini.experiment import load_run, report_on, run_experiment
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.transfer import transfer
from semmim_mini.presets import preset
from semmim_mini.training import checkpoint
from semmim_mini.training.logbook import read_metrics

LIMIT = 20 * 2**20  # bytes of the whole folder


@pytest.fixture(scope="module", params=[TINY, MINI])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def report(name) -> dict:
    return json.loads((course_folder(name) / "report.json").read_text(encoding="utf-8"))


def test_it_is_small_and_has_its_whole_log(name):
    folder = course_folder(name)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < LIMIT
    config = from_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    assert [record["step"] for record in read_metrics(folder / "metrics.jsonl")] == list(range(config.run.steps))
    assert checkpoint.read_state(folder)["step"] == config.run.steps


def test_weights_take_half_the_room_and_compute_in_full_precision(name):
    stored = checkpoint.load_tensors(course_folder(name))
    assert {x.dtype for x in stored.values() if x.is_floating_point()} == {torch.float16}
    model, _ = course_model(name)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training


def test_its_report_can_be_made_anew(name, report):
    again = report_on(course_folder(name))
    assert again["checkpoint"] == report["checkpoint"]
    for part in ("retrieval", "masking", "mim", "collapse", "semantics"):
        for key, value in _flat(again[part]).items():
            assert value == pytest.approx(_flat(report[part])[key], rel=0.05, abs=0.02 if part == "semantics" else 0.005), f"{part} {key}"


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


@pytest.fixture
def run(tiny, tmp_path):
    """A finished run of two steps, whose student is ahead of its teacher."""
    config = override(tiny("data.max_length=24", "run.steps=2", "run.eval_size=8"), ["data.train_size=16", "data.vocab_size=300"])
    run_experiment(config, tmp_path / "run", say=lambda text: None, figures=False)
    return tmp_path / "run"


def test_a_run_is_packed_and_loads_like_any_checkpoint(run, tmp_path):
    pack(run, tmp_path / "packed")
    whole, small = (checkpoint.load_tensors(folder) for folder in (checkpoint.find(run), tmp_path / "packed"))
    assert whole.keys() == small.keys()
    for name, x in whole.items():
        torch.testing.assert_close(small[name].to(x.dtype), x, rtol=1e-3, atol=1e-6)
    one, other = (json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in (run, tmp_path / "packed"))
    assert other["run"] == one["run"] and other["checkpoint"] == 2
    assert len(read_metrics(tmp_path / "packed" / "metrics.jsonl")) == 2


def test_with_one_set_of_encoders_the_student_is_the_teachers_twin(run, tmp_path):
    assert main([str(run), "--out", str(tmp_path / "packed"), "--averaged"]) == 0
    with safe_open(str(tmp_path / "packed" / "model.safetensors"), framework="pt") as file:
        names = set(file.keys())
    assert not [name for name in names if name.startswith("student.")] and "teacher.image.cls" in names
    (ours, _), (model, _) = (load_run(folder) for folder in (run, tmp_path / "packed"))
    theirs, student = ours.teacher.state_dict(), model.student.state_dict()
    assert student.keys() == theirs.keys() and not torch.equal(ours.student.image.positions, theirs["image.positions"])
    for name, x in theirs.items():
        torch.testing.assert_close(student[name], x, rtol=1e-3, atol=1e-6, msg=name)
        assert torch.equal(student[name], model.teacher.state_dict()[name])
    assert model.mlm_head.head.predictions.decoder.weight is model.student.text.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(model.fusion.state_dict(), ours.fusion.state_dict(), rtol=1e-3, atol=1e-6)
    other = SemMIM(model.config, len(theirs["text.bert.embeddings.word_embeddings.weight"]))
    assert transfer(other, checkpoint.load_tensors(tmp_path / "packed")) == []  # another run starts from all of it


def test_what_neither_encoder_has_is_still_missed(run, tmp_path):
    pack(run, tmp_path / "packed", averaged=True)
    tensors = load_file(str(tmp_path / "packed" / "model.safetensors"))
    del tensors["teacher.image.cls"]
    save_file(tensors, str(tmp_path / "packed" / "model.safetensors"))
    with pytest.raises(UserError, match=r"image\.cls is missing in the file"):
        load_run(tmp_path / "packed")


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "packed")]) == 2
    assert "cannot be packed" in (said := capsys.readouterr().err) and "holds no last checkpoint" in said


def test_the_larger_one_is_its_preset_as_it_is():
    config = from_yaml((course_folder(MINI) / "config.yaml").read_text(encoding="utf-8"))
    assert config == preset("mini")


def test_its_scenes_are_those_of_the_kit(report):
    pairs = open_pairs("scenes", "test", resolution=16, size=1_000)
    assert isinstance(pairs, Pairs) and report["pairs"] == pairs.name
