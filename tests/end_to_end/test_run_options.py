"""What a run says before it starts, and what it does on request: curves for TensorBoard, compiled layers, how to go on."""

import pytest
from small_runs import changed, metrics

from semmim_mini.cli import build_parser
from semmim_mini.experiment import header
from semmim_mini.training import checkpoint, loop
from semmim_mini.training.loop import Training
from semmim_mini.training.tensorboard import FOLDER


def test_the_header_says_what_will_run_and_where_to_look(small, tmp_path):
    run = Training(changed(small, "run.steps=1000", "run.accumulate=2", "run.tensorboard=true"), tmp_path)
    first, machine, amount, cost, places, curves = header(run).splitlines()
    trained = sum(p.numel() for _, p in run.model.trainable())
    assert first == "training 1000 steps of 8 from flickr8k/train (32), preset tiny"
    assert f"{trained / 1e6:.1f} M parameters on " in machine and "1 process(es), precision fp32 (as set)" in machine
    assert amount == "8 images a step, 4 at a time in each process; 8,000 images in all, 250.0 times the data"
    words = cost.partition("what it costs: semmim-mini ")[2].split()
    assert build_parser().parse_args(words).config == tmp_path / "config.yaml"
    assert str(tmp_path / "metrics.jsonl") in places and "every 2 steps" in places and "looked at every 3" in places
    assert curves == f"curves: tensorboard --logdir {tmp_path / 'tensorboard'}"


def test_curves_hold_every_step_once_through_a_kill(small, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def killed(*arguments):
        raise SystemExit("as if killed")

    config = changed(small, "run.steps=4", "run.tensorboard=true", "run.eval_every=100")
    Training(config, tmp_path).run(2)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(checkpoint, "save", killed)
        Training(config, tmp_path, resume=True).run()  # steps 2 and 3 are in the curves, and in no checkpoint
    Training(config, tmp_path, resume=True).run()
    events = EventAccumulator(str(tmp_path / FOLDER))
    events.Reload()
    for term in ("itc", "mim"):
        found = [(event.step, event.value) for event in events.Scalars(f"loss/{term}")]
        assert found == [(record["step"], pytest.approx(record["loss"][term])) for record in metrics(tmp_path)]
        assert len(found) == len(events.Scalars(f"chance/{term}")) == 4


def test_without_the_setting_there_are_no_curves(small, tmp_path):
    Training(changed(small, "run.steps=1"), tmp_path).run()
    assert not (tmp_path / FOLDER).exists()


def test_layers_are_compiled_for_training_and_plain_afterwards(small, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "compile_layers", asked.append)
    monkeypatch.setattr(loop, "eager", lambda model: asked.append(model) or model)
    run = Training(changed(small, "run.steps=1", "run.compile=true"), tmp_path)
    assert asked == [run.model]
    run.run()
    assert asked == [run.model]
    run.close()
    assert asked == [run.model, run.model]


@pytest.mark.parametrize(("task", "command"), [("pretrain", "pretrain"), ("captioning", "finetune captioning")])
def test_an_interrupted_run_says_how_to_go_on(small, tmp_path, capsys, task, command):
    config = changed(small, "run.steps=4", "run.eval_every=100")
    if task != "pretrain":
        Training(config, tmp_path / "first").run(1)
        config = changed(config, f"task.name={task}", f"task.checkpoint={tmp_path / 'first'}")
    run = Training(config, tmp_path / "run")
    run.stop_requested = True
    assert run.run().interrupted
    assert f"interrupted after step 1; everything is saved. Go on with: semmim-mini {command} --out {tmp_path / 'run'} --resume" in (
        capsys.readouterr().out
    )


def test_a_temperature_that_steps_out_is_brought_back(small, tmp_path):
    # AdamW's first step is as long as the rate: from 0.07 to −0.43 or 0.57, and neither is a temperature.
    run = Training(changed(small, "run.steps=1", "optim.lr=0.5", "optim.warmup=0.0", "losses.itc.start=0.0"), tmp_path)
    run.run()
    assert run.model.temperature.item() in (pytest.approx(0.001), pytest.approx(0.5))
