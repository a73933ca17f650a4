"""Save and load: the same bits back, offline; a card that the hub can read; one clear error for everything else."""

import json

import pytest
import torch
from huggingface_hub import ModelCard

from semmim_mini.config import to_yaml
from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.hub import Pretrained, figure_table
from semmim_mini.model.semmim import SemMIM
from semmim_mini.use import open_model

CAPTIONS = ["a red dog", "two blue cats on the grass", "a bus"]
REPORT = {
    "pairs": "scenes/test",
    "retrieval": {
        "image_to_text": {"r1": 0.25, "r5": 0.5, "r10": 0.75, "median_rank": 4.0},
        "text_to_image": {"r1": 0.125, "r5": 0.5, "r10": 0.75, "median_rank": 5.0},
        "n_images": 1000,
        "n_texts": 5000,
        "chance": {way: {"r1": 0.001, "r5": 0.005, "r10": 0.01} for way in ("image_to_text", "text_to_image")},
    },
    "matching": {"balanced_accuracy": 0.8, "chance": 0.5},
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tiny, tmp_path):
    tokenizer = train_wordpiece(CAPTIONS, 60)
    whole = Pretrained(SemMIM(tiny("data.source=flickr8k:/somebody/disk"), len(tokenizer)).eval(), tokenizer, REPORT, '["one"]')
    whole.save_pretrained(tmp_path / "model")
    return whole, tmp_path / "model"


@pytest.mark.parametrize("load", [lambda f: Pretrained.from_pretrained(f).model, lambda f: open_model(f)[0]])
def test_the_same_bits_come_back(saved, load):
    whole, folder = saved
    again = load(folder).cpu()
    assert not again.training
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    ids, words = tokenize(Pretrained.from_pretrained(str(folder)).tokenizer, CAPTIONS, 8)
    expected = tokenize(whole.tokenizer, CAPTIONS, 8)
    assert torch.equal(ids, expected[0])
    images = torch.randn(3, 3, 16, 16)
    one, other = (m.fusion(m.student.text(ids, words), words, m.student.image(images)) for m in (whole.model, again))
    assert torch.equal(one, other)


def test_everything_beside_the_weights_comes_back(saved):
    whole, folder = saved
    again = Pretrained.from_pretrained(folder)
    assert again.model.config == whole.model.config and again.report == REPORT and again.answers == '["one"]'
    assert again.tokenizer.get_vocab() == whole.tokenizer.get_vocab()


def test_nothing_is_pickled_and_nothing_left_half_written(saved):
    _, folder = saved
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        *("README.md", "answers.json", "config.json", "config.yaml", "model.safetensors", "report.json"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
    }


def test_the_card_says_what_it_is(saved):
    card = ModelCard.load(saved[1] / "README.md")
    data = card.data.to_dict()
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("apache-2.0", "semmim-mini", "zero-shot-image-classification")
    assert {"semmim", "image-text-retrieval"} <= set(data["tags"])
    assert "| image → text, R@1 | 0.25 | chance 0.001 |" in card.text
    assert "| matching, balanced accuracy | 0.8 | chance 0.5 |" in card.text
    assert "On scenes/test, 1,000 images and 5,000 captions." in card.text
    assert "| data | flickr8k |" in card.text and "/somebody/disk" not in card.text
    assert "| steps | 400 of 4 pairs |" in card.text and "{" not in card.text
    assert "None were given." not in card.text


def test_the_code_of_the_card_runs(saved, monkeypatch):
    whole, folder = saved
    code = ModelCard.load(folder / "README.md").text.split("```python")[1].split("```")[0]
    names = {}
    exec(code.replace("DIR or hub name", str(folder)), names)
    assert len(names["tokenizer"]) == len(whole.tokenizer) and isinstance(names["model"], SemMIM)


def test_a_figure_without_its_reference_is_left_out():
    assert figure_table({"matching": {"balanced_accuracy": 0.8}}) == "None were given."
    assert figure_table({}) == "None were given."
    fine_tuned = figure_table({"data": "coco/test", **REPORT["retrieval"]})
    assert "On coco/test, 1,000 images" in fine_tuned and "| text → image, R@1 | 0.125 | chance 0.001 |" in fine_tuned
    answered = figure_table({"overall": {"accuracy": 0.5, "blind": 0.25}})
    assert "| answers, accuracy | 0.5 | commonest answer to the same words 0.25 |" in answered
    captions = figure_table({"scores": {"cider": 0.5}, "shuffled": {"cider": 0.125}})
    assert "| captions, CIDEr | 0.5 | captions of other images 0.125 |" in captions


@pytest.mark.parametrize("odd", ["x", None, [1], True, float("nan"), 10**400, {"r1": 1}])
def test_odd_figures_of_a_strangers_report_are_left_out(odd):
    report = {"pairs": odd, "matching": {"balanced_accuracy": odd, "chance": 0.5}, "retrieval": odd, "mim": REPORT["matching"]}
    assert figure_table(report) == "None were given."
    assert "captions" not in figure_table({"matching": REPORT["matching"], "retrieval": {"n_images": odd, "n_texts": 3}})


@pytest.mark.parametrize("content", [b"[1]", b"3", b"\xff", b"[" * 100_000])
def test_a_damaged_report_is_none(saved, content):
    (saved[1] / "report.json").write_bytes(content)
    assert Pretrained.from_pretrained(saved[1]).report is None


@pytest.mark.parametrize(("file", "content"), [("config.json", b"["), ("config.json", b"[1]"), ("answers.json", b"\xff")])
def test_a_damaged_file_of_a_folder_that_is_there_is_not_looked_for_elsewhere(saved, file, content):
    (saved[1] / file).write_bytes(content)
    with pytest.raises(UserError, match=r"the model in .*model cannot be read: "):
        Pretrained.from_pretrained(saved[1])


def test_a_card_that_somebody_wrote_is_kept(saved):
    whole, folder = saved
    (folder / "README.md").write_text("mine")
    whole.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_the_folder_is_a_checkpoint_for_fine_tuning(saved):
    from semmim_mini.training import checkpoint

    whole, folder = saved
    assert checkpoint.read_config(checkpoint.find(folder)) == whole.model.config
    assert "student.image.cls" in checkpoint.load_tensors(folder)


def test_a_run_with_its_report_becomes_a_model(saved, tmp_path):
    from shutil import copytree

    whole, folder = saved
    run = tmp_path / "run"
    copytree(folder, run / "checkpoints" / "step-000007", ignore=lambda *_: ["report.json", "answers.json"])
    (run / "checkpoints" / "last").write_text("step-000007")
    (run / "report.json").write_text(json.dumps(REPORT))
    found = Pretrained.from_pretrained(run)
    assert found.report == REPORT and found.answers is None
    assert torch.equal(found.model.student.image.cls.cpu(), whole.model.student.image.cls)


@pytest.mark.parametrize("name", ["nobody/has-such-a-model", "no/such/folder/at/all", "missing"])
@pytest.mark.parametrize("load", [Pretrained.from_pretrained, open_model])
def test_what_is_nowhere_is_one_clear_error(load, name):
    with pytest.raises(UserError, match=f"{name} is no folder here"):
        load(name)


@pytest.mark.parametrize("load", [Pretrained.from_pretrained, open_model])
def test_a_folder_without_a_model_is_one_clear_error(load, tmp_path):
    with pytest.raises(UserError, match="holds no last checkpoint"):
        load(tmp_path)


def test_settings_of_a_newer_version_are_named_with_both_versions(saved):
    whole, folder = saved
    (folder / "config.yaml").write_text(to_yaml(whole.model.config) + "hologram: true\n")
    with pytest.raises(UserError, match="hologram is no setting"):
        Pretrained.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"library_version": "99.1"}))
    with pytest.raises(UserError, match=r"saved by semmim-mini 99\.1, and this is .*hologram"):
        Pretrained.from_pretrained(folder)


def test_damaged_weights_are_one_clear_error(saved):
    (saved[1] / "model.safetensors").write_bytes(b"not safe")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        Pretrained.from_pretrained(saved[1])


def test_pushing_uploads_the_whole_folder(saved, monkeypatch):
    whole, _ = saved
    sent = {}

    class Api:
        def __init__(self, token=None): ...

        def create_repo(self, repo_id, **options):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **options):
            sent[repo_id] = sorted(file.name for file in folder_path.iterdir())
            return "the address"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert whole.push_to_hub("me/model") == "the address"
    assert {"README.md", "config.json", "config.yaml", "model.safetensors", "tokenizer"} <= set(sent["me/model"])
