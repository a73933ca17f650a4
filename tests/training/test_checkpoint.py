"""Checkpoints: exact round trips, and failures at every moment of a save that leave the last good one in place."""

import errno
import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from semmim_mini.config import override
from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint
from semmim_mini.training.optimizer import build_optimizer
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep


class Tokenizer:
    """Stands in for the real one, of which only this is asked."""

    def save_pretrained(self, folder: str) -> None:
        Path(folder).mkdir()
        (Path(folder) / "tokenizer.json").write_text("{}")


@pytest.fixture
def run(make_model, make_batch):
    """`run()`: a small model with its optimiser and a way to train it."""

    class Run:
        def __init__(self, *settings):
            self.model = make_model(*settings)
            self.optimizer = build_optimizer(self.model, self.model.config.optim)
            self.step_module = SemMIMStep(self.model)

        def train(self, step: int) -> None:
            out = self.step_module(make_batch(self.model.config, seed=step), plan_at(self.model.config, step), step)
            sum(out.losses.values()).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.model.update_teacher(0.9)
            self.step_module.remember(out.remember)

        def save(self, folder, step: int, best: bool = False) -> Path:
            state = {"step": step, "best_score": 0.5}
            weights, averages = checkpoint.weights(self.model), checkpoint.optimizer_tensors(self.model, self.optimizer)
            return checkpoint.save(folder, weights, averages, Tokenizer(), self.model.config, state, best)

        def load(self, folder) -> None:
            checkpoint.load_weights(self.model, folder)
            checkpoint.load_optimizer(self.model, self.optimizer, folder)

    return Run


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("shared", ["true", "false"])
def test_going_on_from_a_checkpoint_is_going_on(run, tmp_path, shared):
    settings = ("losses.mim_target=codes", f"space.shared={shared}")
    one = run(*settings)
    one.train(0)
    one.train(1)
    folder = one.save(tmp_path, step=2)

    other = run(*settings)
    other.train(7)  # elsewhere by now
    other.load(folder)
    assert same(one.model.state_dict(), other.model.state_dict())
    assert same(
        checkpoint.optimizer_tensors(one.model, one.optimizer),
        checkpoint.optimizer_tensors(other.model, other.optimizer),
    )
    one.train(2)
    other.train(2)
    assert same(one.model.state_dict(), other.model.state_dict())


def test_shared_and_tied_weights_are_still_one_after_loading(run, tmp_path):
    one, other = run(), run()
    one.train(0)
    other.load(one.save(tmp_path, 1))
    model = other.model
    assert model.student.space.cls is model.student.space.patch
    assert model.mlm_head.head.predictions.decoder.weight is model.student.text.bert.embeddings.word_embeddings.weight


def test_a_checkpoint_tells_its_step_and_configuration(run, tmp_path):
    one = run()
    folder = one.save(tmp_path, 12)
    assert checkpoint.read_state(folder) == {"step": 12, "best_score": 0.5}
    assert checkpoint.read_config(folder) == one.model.config
    assert (folder / "tokenizer" / "tokenizer.json").is_file()
    assert folder == checkpoint.find(tmp_path) == checkpoint.find(folder)


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def test_last_and_best_are_kept_and_the_others_removed(run, tmp_path):
    one = run()
    one.save(tmp_path, 1)
    one.save(tmp_path, 2, best=True)
    one.save(tmp_path, 3)
    one.save(tmp_path, 4)
    assert names(tmp_path) == {"step-000002", "step-000004", "last", "best"}
    assert checkpoint.find(tmp_path, "best").name == "step-000002" and checkpoint.find(tmp_path).name == "step-000004"
    one.save(tmp_path, 5, best=True)
    assert names(tmp_path) == {"step-000005", "last", "best"}


def test_the_same_step_may_be_saved_again(run, tmp_path):
    one = run()
    one.save(tmp_path, 1)
    one.train(0)
    folder = one.save(tmp_path, 1)
    other = run()
    other.load(folder)
    assert same(one.model.state_dict(), other.model.state_dict())


# When saving fails ----------------------------------------------------------------------------------------------------


def failing_at(moment: str, error: BaseException):
    """An os.replace that raises when it is about to complete `moment`: a folder's name or `last`."""
    real = os.replace

    def replace(source, target):
        if Path(target).name == moment:
            raise error
        return real(source, target)

    return replace


@pytest.mark.parametrize("moment", ["state.json", "step-000002", "last"])
def test_a_full_disk_leaves_the_previous_checkpoint(run, tmp_path, monkeypatch, moment):
    one = run()
    one.save(tmp_path, 1)
    before = {k: v.clone() for k, v in one.model.state_dict().items()}
    one.train(1)
    monkeypatch.setattr(os, "replace", failing_at(moment, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(UserError, match=r"cannot save step 2.*No space left.*last good checkpoint is step-000001"):
        one.save(tmp_path, 2)
    assert checkpoint.find(tmp_path).name == "step-000001"
    assert not [name for name in names(tmp_path) if "tmp" in name]
    other = run()
    other.load(checkpoint.find(tmp_path))
    assert same(other.model.state_dict(), before)


@pytest.mark.parametrize("moment", ["state.json", "step-000002", "last"])
def test_a_kill_in_the_middle_leaves_the_previous_checkpoint_and_the_next_save_tidies_up(run, tmp_path, monkeypatch, moment):
    one = run()
    one.save(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing_at(moment, SystemExit("killed")))
        with pytest.raises(SystemExit):
            one.save(tmp_path, 2)
    assert checkpoint.find(tmp_path).name == "step-000001"
    # What a killed process leaves carries its own number, not ours.
    for leftover in (tmp_path / "checkpoints").glob(".step-*.tmp"):
        leftover.rename(leftover.with_name(".step-000002.1.tmp"))
    one.save(tmp_path, 3)
    assert names(tmp_path) == {"step-000003", "last"}


def test_weights_that_cannot_be_written_are_a_user_error(run, tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot save step 1.*none yet"):
        run().save(tmp_path, 1)


def test_text_is_old_or_new_and_never_half(tmp_path, monkeypatch):
    checkpoint.write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "replace", failing_at("a.txt", OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        checkpoint.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


# When loading fails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "garbled header", "missing"])
def test_damaged_tensors_are_named(run, tmp_path, file, damage):
    one = run()
    one.train(0)
    folder = one.save(tmp_path, 1)
    path, content = folder / file, (folder / file).read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 64 + content[64:])
    with pytest.raises(UserError, match=file):
        one.load(folder)


def test_weights_of_another_configuration_are_refused(run, tmp_path):
    folder = run().save(tmp_path, 1)
    with pytest.raises(UserError, match=r"model.safetensors does not fit this configuration"):
        run("image.width=24").load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", torch.zeros(())),
        ("temperature|exp_avg", torch.zeros(2)),
        ("temperature|exp_avg", torch.zeros((), dtype=torch.long)),
        ("temperature|step", torch.zeros(1)),
        ("nothing|exp_avg", torch.zeros(())),
    ],
)
def test_averages_of_another_form_are_refused(run, tmp_path, name, value):
    one = run()
    one.train(0)
    folder = one.save(tmp_path, 1)
    save_file(checkpoint.optimizer_tensors(one.model, one.optimizer) | {name: value}, str(folder / "optimizer.safetensors"))
    with pytest.raises(UserError, match=rf"optimizer.safetensors does not fit this configuration: it holds {re.escape(name)} "):
        one.load(folder)


@pytest.mark.parametrize("step", [-1.0, 1e30, float("nan"), float("inf")])
def test_a_step_that_cannot_be_is_refused(run, tmp_path, step):
    one = run()
    one.train(0)
    folder, state = one.save(tmp_path, 1), checkpoint.optimizer_tensors(one.model, one.optimizer)
    name = next(name for name in state if name.endswith("|step"))
    save_file(state | {name: torch.tensor(step)}, str(folder / "optimizer.safetensors"))
    with pytest.raises(UserError, match=rf"optimizer.safetensors does not fit this configuration: it holds {re.escape(name)} "):
        one.load(folder)


@pytest.mark.parametrize("lost", ["step", "exp_avg", "exp_avg_sq"])
def test_a_state_with_a_part_missing_is_refused(run, tmp_path, lost):
    one = run()
    one.train(0)
    folder, state = one.save(tmp_path, 1), checkpoint.optimizer_tensors(one.model, one.optimizer)
    name = next(name for name in state if name.endswith(f"|{lost}"))
    save_file({other: x for other, x in state.items() if other != name}, str(folder / "optimizer.safetensors"))
    with pytest.raises(UserError, match=rf"of {re.escape(name.rpartition('|')[0])} it holds only "):
        run().load(folder)


def test_an_optimiser_of_another_model_is_refused(run, tmp_path):
    deep = run("image.depth=3")
    deep.train(0)
    folder = deep.save(tmp_path, 1)
    other = run()
    with pytest.raises(UserError, match=r"optimizer.safetensors does not fit.*layers\.2"):
        checkpoint.load_optimizer(other.model, other.optimizer, folder)


STATES = ["", "{", "[]", "{}", '{"step": null}', '{"step": "many"}', '{"step": 1}', '{"step": 1, "best_score": null}', "[" * 100_000]
STATES += [f'{{"step": {step}, "best_score": 0.5}}' for step in ("-1", "1.5", "Infinity", "true", "9" * 30, "9" * 5_000)]
STATES += ['{"step": 1, "best_score": NaN}', '{"step": 1, "best_score": 0.5, "scaler": 3}']


@pytest.mark.parametrize("text", STATES)
def test_a_damaged_state_is_named(run, tmp_path, text):
    folder = run().save(tmp_path, 1)
    (folder / "state.json").write_text(text)
    with pytest.raises(UserError, match=r"state\.json") as caught:
        checkpoint.read_state(folder)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"image: [", b"image: 3", b"imagine: {}", b"run: {seed: 2001-99-99}", b"[" * 1_000])
def test_a_damaged_configuration_is_a_user_error(run, tmp_path, content):
    folder = run().save(tmp_path, 1)
    (folder / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"step-000001/config\.yaml"):
        checkpoint.read_config(folder)


@pytest.mark.parametrize("pointer", [None, "", "step-000009", "\x00", "../step-000001", "/tmp", ".", "x" * 5_000, b"\xff\xfe"])
def test_a_pointer_to_nothing_is_no_checkpoint(tmp_path, pointer):
    (tmp_path / "checkpoints").mkdir()
    if pointer is not None:
        (tmp_path / "checkpoints" / "last").write_bytes(pointer if isinstance(pointer, bytes) else pointer.encode())
    with pytest.raises(UserError, match="holds no last checkpoint"):
        checkpoint.find(tmp_path)


def test_nothing_is_pickled(run, tmp_path):
    folder = run().save(tmp_path, 1)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".safetensors", ".json", ".yaml"}
    json.loads((folder / "state.json").read_text())


# Resuming with other settings -----------------------------------------------------------------------------------------


def test_every_differing_setting_is_listed_and_free_ones_are_ignored(tiny):
    stored = tiny()
    free = [
        "data.workers=2",
        "run.save_every=7",
        "run.eval_every=9",
        "run.eval_size=3",
        "run.log_every=1",
        "run.checkpoint_activations=true",
        "run.parallel=fsdp",
        "run.compile=true",
        "run.tensorboard=true",
    ]
    checkpoint.require_same(stored, override(stored, free))
    with pytest.raises(UserError) as caught:
        checkpoint.require_same(stored, override(stored, [*free, "masking.ratio=0.4", "losses.mim.weight=0.5", "run.seed=3"]))
    message = str(caught.value)
    for line in ("masking.ratio: (0.5, 0.5) → (0.4, 0.4)", "losses.mim.weight: 1.0 → 0.5", "run.seed: 0 → 3"):
        assert line in message
    assert "workers" not in message and "save_every" not in message
