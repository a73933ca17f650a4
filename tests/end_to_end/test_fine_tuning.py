"""Pre-train, fine-tune, resume, evaluate: the way from a checkpoint to a task, as a user types it."""

import json

import pytest
import torch
from safetensors.torch import load_file
from small_runs import metrics, settings

from semmim_mini import cli
from semmim_mini.config import from_yaml, override
from semmim_mini.training import checkpoint
from semmim_mini.training.finetuning import KEPT, fine_tuning_config
from semmim_mini.training.loop import Training

SHORT = ("run.steps=4", "run.eval_every=2", "run.save_every=2")


def words(*typed: str) -> list[str]:
    return [word for setting in typed for word in ("--set", setting)]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run on scenes, whose grid of patches is 4 × 4."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert cli.main(["pretrain", "--out", str(folder), *words(*settings({"run.steps": 2, "data.max_length": 20}))]) == 0
    return folder


def finetune(task: str, pretrained, folder, *typed: str, more: tuple[str, ...] = ()) -> int:
    return cli.main(["finetune", task, "--checkpoint", str(pretrained), "--out", str(folder), *words(*SHORT, *typed), *more])


@pytest.fixture(scope="module")
def answering(pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqa") / "run"
    assert finetune("vqa", pretrained, folder) == 0
    return folder


@pytest.mark.parametrize("task", KEPT)
def test_a_task_trains_its_own_terms_from_the_checkpoint(task, pretrained, tmp_path):
    assert finetune(task, pretrained, tmp_path / "run") == 0
    records = metrics(tmp_path / "run")
    assert len(records) == 4 and all(set(record["loss"]) == set(record["chance"]) == set(KEPT[task]) for record in records)
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["task"] == task and report["fresh"] == [] and report["run"]["steps"] == 4
    assert (tmp_path / "run" / "figures" / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_weights_are_the_checkpoints_and_from_scratch_they_are_not(pretrained, tmp_path):

    theirs = load_file(checkpoint.find(pretrained) / "model.safetensors")
    name = "student.image.layers.0.attention.qkv.weight"
    for scratch in (False, True):
        config = fine_tuning_config("captioning", pretrained)

        run = Training(override(config, [f"task.from_scratch={scratch}".lower()]), tmp_path / str(scratch))
        assert torch.equal(run.model.get_parameter(name), theirs[name]) != scratch
        assert run.tokenizer.get_vocab() == Training(config, tmp_path / f"{scratch} too").tokenizer.get_vocab()


def test_higher_resolution_than_in_pre_training(pretrained, tmp_path):
    assert finetune("retrieval", pretrained, tmp_path / "run", "data.resolution=48") == 0
    weights = load_file(checkpoint.find(tmp_path / "run") / "model.safetensors")
    assert weights["student.image.positions"].shape[0] == 1 + 6 * 6


@pytest.mark.parametrize("task", ["captioning", "vqa"])
def test_resume_ends_in_the_same_bits(task, pretrained, tmp_path):

    config = override(fine_tuning_config(task, pretrained), list(SHORT))
    Training(config, tmp_path / "whole").run()
    Training(config, tmp_path / "halves").run(2)
    resumed = ["finetune", task, "--out", str(tmp_path / "halves"), "--resume"]
    assert cli.main(resumed) == 0
    one, two = (load_file(checkpoint.find(tmp_path / name) / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")


@pytest.mark.parametrize("task", ["retrieval", "captioning", "grounding", "zero-shot", "probes"])
def test_evaluate_writes_what_it_prints(task, pretrained, tmp_path, capsys):
    more = ["--limit", "24", *(["--rerank", "4"] if task == "retrieval" else [])]
    assert cli.main(["evaluate", task, "--checkpoint", str(pretrained), "--out", str(tmp_path / "found.json"), *more]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["task"] == task and f"task  {task}" in capsys.readouterr().out


def test_answers_are_chosen_from_the_list_of_the_fine_tuned_run(answering, tmp_path):
    listed = json.loads((answering / "answers.json").read_text(encoding="utf-8"))["answers"]
    files = [f"--{name}={tmp_path / name}.json" for name in ("out", "results")]
    assert cli.main(["evaluate", "vqa", "--checkpoint", str(answering), "--limit", "12", *files]) == 0
    given = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert given and all(row["answer"] in listed for row in given)
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["n_answers"] == len(listed) and found["overall"]["chance"] == pytest.approx(1 / len(listed), abs=1e-5)


def test_official_results_of_captions(pretrained, tmp_path):
    arguments = ["evaluate", "captioning", "--checkpoint", str(pretrained), "--limit", "8", "--results", str(tmp_path / "captions.json")]
    assert cli.main(arguments) == 0
    rows = json.loads((tmp_path / "captions.json").read_text(encoding="utf-8"))
    assert len(rows) == 8 and all(set(row) == {"image_id", "caption"} for row in rows)


def test_commands_for_a_person(answering, photos, capsys):
    picture = str(photos / "Images" / "001.png")
    assert cli.main(["caption", picture, "--checkpoint", str(answering.parent / "none")]) == 2
    assert cli.main(["answer", picture, "what is this?", "--checkpoint", str(answering)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_search_and_caption_for_a_person(pretrained, photos, capsys):
    search = ["search", "a red square", "--images", str(photos / "Images"), "--top", "4", "--checkpoint", str(pretrained)]
    assert cli.main(search) == 0
    by_contrast = capsys.readouterr().out.splitlines()
    assert cli.main([*search, "--rerank", "4"]) == 0
    by_matching = capsys.readouterr().out.splitlines()
    assert len(by_contrast) == len(by_matching) == 4 and by_contrast != by_matching  # other scores for the same pictures
    assert {line.split("  ")[1] for line in by_contrast} == {line.split("  ")[1] for line in by_matching}
    assert cli.main(["caption", str(photos / "Images" / "001.png"), "--checkpoint", str(pretrained)]) == 0
    assert capsys.readouterr().out.strip()


def refused(arguments: list[str], capsys) -> str:
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("semmim-mini: ") and "Traceback" not in said
    return said


def test_mistakes_are_told_before_anything_is_written(pretrained, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert "task 'caption' is none that can be fine-tuned" in refused(
        ["finetune", "caption", "--checkpoint", str(pretrained), "--out", out], capsys
    )
    assert "--checkpoint is missing" in refused(["finetune", "vqa", "--out", out], capsys)
    assert "holds no last checkpoint" in refused(["finetune", "vqa", "--checkpoint", str(tmp_path), "--out", out], capsys)
    assert "task 'vq' is none that can be evaluated" in refused(["evaluate", "vq", "--checkpoint", str(pretrained)], capsys)
    assert "no answer decoder" in refused(["evaluate", "vqa", "--checkpoint", str(pretrained)], capsys)
    width = ["finetune", "retrieval", "--checkpoint", str(pretrained), "--out", out, "--set", "image.width=48"]
    assert "must be the checkpoint's" in refused(width, capsys)
    answers = ["pretrain", "--out", out, *words(*settings(), "losses.answer.weight=1")]
    assert "losses.answer.weight=1.0 has no questions in task pretrain" in refused(answers, capsys)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_task_is_not_resumed(answering, capsys):
    assert "holds a run for vqa" in refused(["finetune", "captioning", "--out", str(answering), "--resume"], capsys)


def test_the_configuration_says_what_was_done(answering, pretrained):
    config = from_yaml((answering / "config.yaml").read_text(encoding="utf-8"))
    assert config.task.name == "vqa" and config.task.checkpoint == str(checkpoint.find(pretrained))
    assert config.losses.answer.weight == 1 and config.losses.itc.weight == 0
