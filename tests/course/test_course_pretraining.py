"""Notebook 07: its checkers tell mistakes apart, gradients are found where they arrive, runs are watched, stopped and resumed."""

import math
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.config import override
from semmim_mini.course import pretraining, welcome
from semmim_mini.course.pretraining import (
    LAYERS,
    PARTS,
    check_chance,
    check_follow,
    check_order,
    check_rate,
    check_scale,
    reach,
    seconds_per_step,
    types_under_autocast,
)
from semmim_mini.course.welcome import minute_config, stop_during, train_and_watch
from semmim_mini.training.jobs import open_job
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Diverged, Training
from semmim_mini.training.schedules import PRETRAINING_TERMS, plan_at

# Checkers -------------------------------------------------------------------------------------------------------------


def chance(batch, queue, words, k, matching=(1 / 3, 2 / 3), log=math.log):
    return log(batch + queue), -sum(p * log(p) for p in matching), log(words), log(k)


def rate(t, warmup, end, start=0.001, from_warmup=True, bottom=None):
    if t < warmup:
        return (t + start) / (warmup + start)
    p = (t - warmup) / (1 - warmup) if from_warmup else t
    bottom = end if bottom is None else bottom
    return bottom + (1 - bottom) * 0.5 * (1 + math.cos(math.pi * p))


def follow(teacher, trained, momentum, step, grows=True, ceiling=True):
    growing = (step + 1) / (step + 10)
    share = min(momentum, growing) if grows and ceiling else growing if grows else momentum
    return teacher + (1 - share) * (trained - teacher)


def follow_in_place(teacher, trained, momentum, step):
    return teacher.lerp_(trained, 1 - min(momentum, (step + 1) / (step + 10)))


def scale_by_pytorch(scale, good, finite, interval):
    """What torch's own scaler does."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=interval)
    scaler.load_state_dict({**scaler.state_dict(), "_growth_tracker": good})
    scaler.scale(weight.sum() * (1.0 if finite else math.inf)).backward()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale(), scaler.state_dict()["_growth_tracker"], weight.item() != 1.0


def scale_without_patience(scale, good, finite, interval):
    return (2 * scale, 0, True) if finite else (scale / 2, 0, False)


def order(shuffled, batch, step, row=lambda place, size: place // size):
    size = shuffled.shape[1]
    return torch.stack([shuffled[row(place, size), place % size] for place in range(step * batch, step * batch + batch)])


NUMBER = 7
RIGHT = [
    (check_chance, chance),
    (check_rate, rate),
    (check_follow, follow),
    (check_scale, scale_by_pytorch),
    (check_order, order),
]
WRONG = [
    (check_chance, lambda b, q, w, k: chance(b, 0, w, k), "compares with the queue as well"),
    (check_chance, lambda b, q, w, k: chance(b, q, w, k, matching=(0.5, 0.5)), "one in three"),
    (check_chance, lambda b, q, w, k: chance(b, q, w, k, log=math.log2), "these are bits"),
    (check_chance, lambda b, q, w, k: chance(b, q, w, k)[:3], "expected 4 results"),
    (check_rate, lambda t, w, e: rate(t, w, e, start=0), "very first step has the rate 0"),
    (check_rate, lambda t, w, e: rate(t, w, e, from_warmup=False), "counts from the beginning of the run"),
    (check_rate, lambda t, w, e: rate(t, w, e, bottom=0), "ends at 0; it should end at `end`"),
    (check_rate, lambda t, w, e: rate(t, w, e) + 1, "expected .*, got"),
    (check_follow, lambda old, new, m, t: follow(new, old, m, t), "shares are swapped"),
    (check_follow, lambda old, new, m, t: follow(old, new, m, t, grows=False), "full from the first step on"),
    (check_follow, lambda old, new, m, t: follow(old, new, m, t, ceiling=False), "has no ceiling"),
    (check_follow, follow_in_place, "changes its argument `teacher` in place"),
    (check_scale, lambda s, g, f, i: (*scale_by_pytorch(s, g, f, i)[:2], True), "steps although a gradient is infinite"),
    (check_scale, lambda s, g, f, i: scale_by_pytorch(s, g, True, i), "`finite` is not used"),
    (check_scale, scale_without_patience, "every good step doubles"),
    (check_order, lambda s, b, t: order(s, b, t, row=lambda place, size: 0), "every epoch has the order of the first"),
    (check_order, lambda s, b, t: order(s, b, t, row=lambda place, size: t * b // size), "across two epochs"),
    (check_order, lambda s, b, t: s.flatten()[t : t + b], "batches overlap"),
]  # fmt: skip
LISTS = (
    (check_chance, pretraining.CHANCE_MISTAKES),
    (check_rate, pretraining.RATE_MISTAKES),
    (check_follow, pretraining.FOLLOW_MISTAKES),
    (check_scale, pretraining.SCALE_MISTAKES),
    (check_order, pretraining.ORDER_MISTAKES),
)


# Which term teaches which part ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage():
    """Step, batch and the plan of a last step."""
    torch.manual_seed(0)
    config = override(minute_config(), ["data.batch_size=8", "data.train_size=16"])
    job = open_job(config, resumed=None)
    return job.step, next(iter(job.loader(0, 1, 0, 1))), plan_at(config, config.run.steps - 1)


REACHED = {
    "itc": {"image encoder", "text encoder", "ITC projections, τ"},
    "itm": {"image encoder", "text encoder", "fusion and its heads"},
    "mlm": {"image encoder", "text encoder", "fusion and its heads"},
    "consensus": {"image encoder", "encoding space"},
    "mim": {"image encoder", "text encoder", "words into patches", "encoding space"},
    "caption": {"image encoder", "caption decoder"},
}


@pytest.mark.parametrize("term", PRETRAINING_TERMS)
def test_a_term_teaches_the_networks_that_it_uses(stage, term):
    norms = reach(*stage, term)
    assert {part for part, norm in norms.items() if norm > 0} == REACHED[term]
    assert set(norms) == set(PARTS.values()) and norms["teacher"] == 0
    assert all(parameter.grad is None for parameter in stage[0].parameters())  # nothing is left behind


def test_squares_of_the_parts_add_up_to_the_whole_gradient(stage):
    step, batch, plan = stage
    norms = reach(step, batch, plan, "itm")
    step(batch, replace(plan, weights={"itm": 1.0}), seed=0).losses["itm"].backward()
    whole = sum(float(p.grad.square().sum()) for p in step.parameters() if p.grad is not None)
    step.zero_grad()
    assert sum(norm**2 for norm in norms.values()) == pytest.approx(whole, rel=1e-4)


def test_products_are_bf16_under_autocast_and_what_is_divided_by_small_temperatures_is_not(stage):
    types = types_under_autocast(*stage)
    assert set(types) == set(LAYERS) | {f"loss {term}" for term in PRETRAINING_TERMS}
    assert types["patches"] == types["MLP of the space"] == "bfloat16"
    assert types["logits of prototypes"] == "float32"
    assert all(types[f"loss {term}"] == "float32" for term in PRETRAINING_TERMS)
    step = stage[0]
    assert not any(module._forward_hooks for module in step.modules())


# Runs -----------------------------------------------------------------------------------------------------------------

SHORT = ("run.steps=6", "data.batch_size=8", "data.train_size=16", "data.vocab_size=200")


class Page:
    """A notebook page: what is shown below a cell, and what takes its place."""

    def __init__(self, monkeypatch):
        self.shown = []
        monkeypatch.setattr("IPython.display.display", self.display)

    def display(self, thing, display_id=None):
        self.shown.append(thing)
        return self

    update = display


@pytest.fixture
def page(monkeypatch):
    return Page(monkeypatch)


def test_a_run_is_watched_stopped_and_resumed_to_the_same_bits(page, tmp_path, capsys):
    config = override(minute_config(), list(SHORT))
    first = train_and_watch(config, tmp_path / "parts", "Curves.", stop_after=3)
    assert first.interrupted and first.steps == 3
    assert f"interrupted after step 3; everything is saved. Go on with: semmim-mini pretrain --out {tmp_path}" in capsys.readouterr().out
    second = train_and_watch(config, tmp_path / "parts", "Curves.", resume=True)
    assert not second.interrupted and second.steps == 6
    Training(config, tmp_path / "whole").run()
    losses = [[record["loss"] for record in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("parts", "whole")]
    assert losses[0] == losses[1] and len(losses[0]) == 6


def test_the_last_curve_shows_the_whole_run(page, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(
        welcome, "_curve", lambda config, folder, alt: counts.append(len(read_metrics(folder / "metrics.jsonl"))) or "curve"
    )
    train_and_watch(override(minute_config(), list(SHORT)), tmp_path / "run", "Curves.")
    assert counts[-1] == 6
    assert "few seconds" in page.shown[0].data and page.shown[-1] == "curve"


def test_the_stop_button_lets_the_step_end_and_saves(page, tmp_path, monkeypatch):
    def press(config, folder, alt, pressed=[]):  # noqa: B006 (once)
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(welcome, "_curve", press)
    monkeypatch.setattr(welcome, "REDRAW", 0.5)
    config = override(minute_config(), [*SHORT, "run.steps=2000"])
    finished = train_and_watch(config, tmp_path / "run", "Curves.")
    assert finished.interrupted and finished.steps < 2000
    assert Training(config, tmp_path / "run", resume=True).start == finished.steps


def test_a_second_press_acts_at_once(page, monkeypatch):
    def press(config, folder, alt):
        raise KeyboardInterrupt

    monkeypatch.setattr(welcome, "_curve", press)
    run = SimpleNamespace(stop_requested=False, config=None, folder=None)
    with pytest.raises(KeyboardInterrupt):
        welcome._watch(run, threading.Thread(target=time.sleep, args=(0.2,)), "Curves.")
    assert run.stop_requested


def test_an_error_of_the_run_is_raised_where_it_is_watched(page, tmp_path):
    config = override(minute_config(), [*SHORT, "optim.lr=1e20"])
    with pytest.raises(Diverged, match="loss term itc is nan at step 2"):
        train_and_watch(config, tmp_path / "run", "Curves.")


def test_a_run_can_be_asked_to_stop_at_any_step(tmp_path):
    run = Training(override(minute_config(), list(SHORT)), tmp_path / "run")
    stop_during(run, 1)
    finished = run.run()
    assert finished.interrupted and finished.steps == 1


def test_seconds_are_those_of_computing(tmp_path, monkeypatch):
    records = [{"seconds": 9.0, "seconds_waiting_for_data": 0.0}] * 3 + [{"seconds": 3.0, "seconds_waiting_for_data": 2.0}] * 3
    monkeypatch.setattr(pretraining, "read_metrics", lambda path: records)
    assert seconds_per_step(override(minute_config(), [*SHORT, "run.steps=1"]), "fp32", tmp_path / "run") == 1.0
