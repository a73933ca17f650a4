"""Files made to do harm: none runs code, and none leads out of its folder. What would fill memory: test_hostile_memory.py."""

import io
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from fuzz_engine import write
from fuzz_files import picture, tar, with_checksum
from fuzz_shards import Folder as Shards

from semmim_mini.config import Config, from_yaml, override
from semmim_mini.data.cutouts import load_cutouts
from semmim_mini.data.picture_files import UnreadablePicture, read_picture
from semmim_mini.data.text import load_tokenizer
from semmim_mini.errors import UserError
from semmim_mini.experiment import load_run
from semmim_mini.hub import Pretrained
from semmim_mini.model.pretrained import load_pretrained_text
from semmim_mini.model.pretrained_image import load_pretrained_image
from semmim_mini.prepare.img2dataset import img2dataset
from semmim_mini.prepare.job import Settings, prepare
from semmim_mini.tasks.caption_files import read_results
from semmim_mini.training import checkpoint
from semmim_mini.training.logbook import read_metrics

REFUSED = (UserError, UnreadablePicture)


# Code ------------------------------------------------------------------------------------------------------------------


class Payload:
    """Touches a file as soon as it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def payloads(mark: Path) -> list[bytes]:
    """The payload pickled, and as PyTorch pickles it."""
    file = io.BytesIO()
    torch.save({"weight": Payload(mark)}, file)
    return [pickle.dumps(Payload(mark)), file.getvalue()]


def test_the_payload_does_harm_where_it_is_unpickled(tmp_path):
    pickle.loads(payloads(tmp_path / "mark")[0])
    assert (tmp_path / "mark").exists()


def _load_optimizer(folder: Path) -> None:
    model = torch.nn.Linear(2, 2)
    checkpoint.load_optimizer(model, torch.optim.AdamW(model.parameters()), folder)


PLACES = {
    "model.safetensors": load_run,
    "config.yaml": load_run,
    "tokenizer/tokenizer.json": load_run,
    "optimizer.safetensors": _load_optimizer,
    "state.json": checkpoint.read_state,
    "metrics.jsonl": lambda folder: read_metrics(folder / "metrics.jsonl") or _refuse(),
    "../../answers.json": Pretrained.from_pretrained,  # beside the checkpoints
    "results.json": lambda folder: read_results(folder / "results.json"),
    "photo.jpg": lambda folder: read_picture(folder / "photo.jpg"),
    "00000.tar": lambda folder: list(img2dataset(folder / "00000.tar", "cc3m")),
}


def _refuse():
    """Of a log that holds nothing, nothing is read: as good as refused."""
    raise UserError("an empty log")


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_the_place_of_a_file_is_refused_and_not_opened(folder, tmp_path, place):
    for content in payloads(tmp_path / "mark"):
        write(folder / place, content)
        with pytest.raises(REFUSED):
            PLACES[place](folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["index.json", "train.npy", "train-000000.tar"])
def test_a_pickle_in_the_place_of_a_shard_is_refused_and_not_opened(tmp_path, name):
    made = Shards(tmp_path)
    use = {"index.json": made.index_file, "train.npy": made.places, "train-000000.tar": made.tar}[name]
    for content in payloads(tmp_path / "mark"):
        with pytest.raises(UserError):
            use(content)
    assert not (tmp_path / "mark").exists()


def test_a_model_with_pickled_weights_only_is_no_model(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    for name, content in zip(("pytorch_model.bin", "model.pt"), payloads(tmp_path / "mark"), strict=True):
        write(folder / name, content)
    with pytest.raises(UserError, match="holds no last checkpoint"):
        Pretrained.from_pretrained(folder)
    assert not (tmp_path / "mark").exists()


BERT = dict(model_type="bert", vocab_size=30, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
VIT = dict(model_type="vit", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=8, image_size=16)
ENCODERS = {"text": (load_pretrained_text, BERT | {"max_position_embeddings": 80}), "image": (load_pretrained_image, VIT)}


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_from_elsewhere_are_never_unpickled(make_model, tmp_path, kind):
    load, config = ENCODERS[kind]
    write(tmp_path / "model" / "config.json", json.dumps(config))
    for name, content in zip(("pytorch_model.bin", "model.bin"), payloads(tmp_path / "mark")[::-1], strict=True):
        write(tmp_path / "model" / name, content)
    with pytest.raises(UserError, match="cannot be loaded"):
        load(make_model(), str(tmp_path / "model"))
    assert not (tmp_path / "mark").exists()


EVIL = "from pathlib import Path\nPath({mark!r}).touch()\nclass Evil: ...\n"


@pytest.fixture
def no_terminal(monkeypatch):
    """Whoever asks a question gets yes for an answer."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


@pytest.mark.parametrize("kind", ENCODERS)
def test_code_beside_an_encoder_is_not_run(make_model, tmp_path, no_terminal, kind):
    load, config = ENCODERS[kind]
    classes = {name: "evil.Evil" for name in ("AutoConfig", "AutoModel", "AutoImageProcessor")}
    write(tmp_path / "model" / "config.json", json.dumps(config | {"model_type": "evil", "auto_map": classes}))
    write(tmp_path / "model" / "evil.py", EVIL.format(mark=str(tmp_path / "mark")))
    with pytest.raises(UserError, match="cannot be loaded"):
        load(make_model(), str(tmp_path / "model"))
    assert not (tmp_path / "mark").exists()


def test_code_beside_a_tokenizer_is_not_run(folder, tmp_path, no_terminal):
    settings = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    write(folder / "tokenizer" / "tokenizer_config.json", json.dumps(settings))
    write(folder / "tokenizer" / "evil.py", EVIL.format(mark=str(tmp_path / "mark")))
    try:
        load_tokenizer(folder / "tokenizer")
    except UserError as error:
        assert "cannot be loaded" in str(error)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:pathlib.Path", "!!python/name:os.system"])
def test_yaml_makes_no_objects(tmp_path, tag):
    with pytest.raises(UserError, match="not valid YAML"):
        from_yaml(f"preset: {tag} [{tmp_path / 'mark'}]")
    with pytest.raises(UserError, match="not readable"):
        override(Config(), [f"preset={tag} [{tmp_path / 'mark'}]"])
    assert not (tmp_path / "mark").exists()


def test_pictures_that_are_programs_are_not_run(tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript, if there is one."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("another program was started"))
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("another program was started"))
    path = write(
        tmp_path / "photo.jpg", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(mark) (w) file\nshowpage\n%%EOF\n"
    )
    with pytest.raises(UnreadablePicture, match="cannot identify"):
        read_picture(path)


# Places ----------------------------------------------------------------------------------------------------------------


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_names_inside_a_tar_never_become_paths(tmp_path):
    """Neither upwards, nor absolute, nor through a link."""
    up, away = "../" * 3 + "escaped", str(tmp_path / "escaped")
    link = bytearray(tar({"in.jpg": b""})[:512])
    link[156:157], link[157 : 157 + len(away)] = b"2", away.encode()
    good = tar({f"{name}.{ending}": content for name in (up, away, "in/x") for ending, content in (("jpg", picture()), ("txt", b"a dog"))})
    write(tmp_path / "source" / "00000.tar", with_checksum(link) + good)
    before = everything(tmp_path)
    report = prepare("cc3m", {"train": img2dataset(tmp_path / "source", "cc3m")}, tmp_path / "out", Settings(size=64))
    assert report["train"]["written"] == 3  # the pictures are good; only their names were not
    assert {name.split("/")[0] for name in everything(tmp_path) - before} == {"out"}
    assert everything(tmp_path / "out") == {
        "index.json",
        "report.json",
        "train.npy",
        "train.shards.json",
        "train-000000.tar",
        "train-000000.json",
    }


@pytest.mark.parametrize(
    "name", ["../outside", "/etc", "..", ".", "step-000002/../../../outside", "step-1", "x" * 100_000, "step-000002\0"]
)
def test_a_pointer_leads_to_no_other_folder(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "run" / "outside")
    write(tmp_path / "run" / "checkpoints" / "last", name)
    with pytest.raises(UserError, match="holds no last checkpoint"):
        checkpoint.find(tmp_path / "run")


@pytest.mark.parametrize("name", ["../train-000000.tar", "/tmp/train-000000.tar", "train-000000.tar/../../x", "other-000000.tar"])
def test_an_index_names_no_file_elsewhere(tmp_path, name):
    made = Shards(tmp_path)
    shutil.copy(made.home / "train-000000.tar", tmp_path / "train-000000.tar")
    made.index["splits"]["train"]["shards"][0]["file"] = name
    with pytest.raises(UserError, match="impossible shard"):
        made.index_file(json.dumps(made.index).encode())


def test_a_manifest_of_cutouts_names_no_file_elsewhere(tmp_path):
    write(tmp_path / "secret.png", picture("PNG", "RGBA"))
    names = "id,file,concept,names,plural,category,colors,source,version,origin,creator,licence"
    write(tmp_path / "cutouts" / "manifest.csv", f"{names}\nx,../secret.png,x,x,x,x,x,x,x,x,x,x\n")
    with pytest.raises(UserError, match=r"row 2: file '\.\./secret\.png' is no name"):
        load_cutouts(tmp_path / "cutouts")
