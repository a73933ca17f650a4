"""Two processes compute what one does at the same global batch, whole (DDP) or split (FSDP), and runs pass from one to the other."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import TORCHRUN, changed, metrics, pretrain, start, train
from spread_runs import Watched, seen

from semmim_mini.config import to_yaml
from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint

SCRIPT = str(Path(__file__).with_name("spread_runs.py"))


@pytest.fixture(scope="module")
def pair(small, photos, tmp_path_factory):
    """The folders of the same run by one process, here, and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two") / "run"
    process = pretrain(two, {"data.source": f"flickr8k:{photos}", "run.steps": 4}, *TORCHRUN)
    config = changed(small, "run.steps=4")
    Watched(config, one).run(2)  # stopped half way, so that two processes can go on from there
    shutil.copytree(one, one.with_name("half"))
    Watched(config, one, resume=True).run()
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "2 process(es) (ddp)" in said and said.count("training 4 steps") == 1  # one of them speaks
    return one, two


@pytest.fixture(scope="module")
def spread(small, pair, tmp_path_factory):
    """Folders of runs that were split, or stopped by as many processes and finished by another number."""
    home, one = tmp_path_factory.mktemp("spread"), pair[0]
    jobs, config = [], changed(small, "run.steps=4")

    def job(name: str, parallel: str, until: int | None = None, resume: bool = False, report: bool = False) -> None:
        (home / f"{name}.yaml").write_text(to_yaml(changed(config, f"run.parallel={parallel}")), encoding="utf-8")
        if resume:
            shutil.copytree(one.with_name("half"), home / name)
        jobs.append({"config": str(home / f"{name}.yaml"), "out": str(home / name), "until": until, "resume": resume, "report": report})

    job("ddp, then one", "ddp", until=2)
    job("one, then ddp", "ddp", resume=True)
    job("fsdp, then one", "fsdp", until=2)
    job("one, then fsdp", "fsdp", resume=True)
    job("fsdp", "fsdp", report=True)
    (home / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    process = start(*TORCHRUN, SCRIPT, str(home / "jobs.json"))
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "2 process(es) (fsdp)" in said
    for name in ("ddp, then one", "fsdp, then one"):
        Watched(config, home / name, resume=True).run()
    return home


def require_close(one: Path, other: Path) -> None:
    """The same losses at every step, and weights that differ by no more than a sum in another order."""
    for alone, together in zip(metrics(one), metrics(other), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-4)
        assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)
    left, right = (load_file(checkpoint.find(folder) / "model.safetensors") for folder in (one, other))
    assert left.keys() == right.keys()
    for name in left:
        # Adam divides by the gradient's own size, so a gradient near zero turns a rounding error into part of a step (lr = 1e-3).
        torch.testing.assert_close(
            right[name].float(), left[name].float(), atol=5e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_ddp_computes_what_one_process_does(pair):
    assert len(metrics(pair[0])) == 4
    require_close(*pair)


def test_metrics_are_of_the_whole_batch(pair):
    for alone, together in zip(*map(metrics, pair), strict=True):
        for name in ("itc_accuracy", "itc_keys", "masked_share", "patch_entropy", "cls_entropy", "patch_prototypes_used"):
            assert together[name] == pytest.approx(alone[name], abs=1e-3), name


def test_fsdp_computes_what_one_process_does(pair, spread):
    require_close(pair[0], spread / "fsdp")


def test_checkpoints_of_fsdp_are_whole(pair, spread):
    for file in ("model", "optimizer"):
        one, split = (load_file(checkpoint.find(folder) / f"{file}.safetensors") for folder in (pair[0], spread / "fsdp"))
        assert {name: (x.shape, x.dtype) for name, x in one.items()} == {name: (x.shape, x.dtype) for name, x in split.items()}


PASSED_ON = ("ddp, then one", "one, then ddp", "fsdp, then one", "one, then fsdp")


@pytest.mark.parametrize("name", PASSED_ON)
def test_another_number_of_processes_goes_on(pair, spread, name):
    assert [record["step"] for record in metrics(spread / name)] == [0, 1, 2, 3]
    require_close(pair[0], spread / name)


@pytest.mark.parametrize("name", PASSED_ON)
def test_every_step_is_given_the_same_rows_in_the_same_order(pair, spread, name):
    whole = seen(pair[0])
    assert list(whole) == [0, 1, 2, 3] and {len(rows) for rows in whole.values()} == {8}
    found = seen(spread / name)
    assert {step: found[step] for step in sorted(found)} == whole  # pixels bit for bit


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_main_process_reports(pair, spread, kind):
    folder = pair[1] if kind == "ddp" else spread / "fsdp"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["retrieval"]["n_images"] == 8 and report["run"]["steps"] == 4
    assert (folder / "figures" / "figures.json").is_file()


def test_going_on_with_more_steps_is_another_run(small, pair, tmp_path):
    shutil.copytree(pair[1], tmp_path / "run")
    with pytest.raises(UserError, match=r"run\.steps: 4 → 6"):
        train(small, tmp_path / "run", resume=True)
    assert train(changed(small, "run.steps=4"), tmp_path / "run", resume=True).steps == 4
