r"""The training loop: batches in, a folder of results out.

    DIR/config.yaml  tokenizer/  metrics.jsonl  checkpoints/  report.json  figures/

The loop knows nothing of what it trains: `jobs.py` has the data, the networks and the step of pre-training and of each task.

**Exactness.** Step t depends on (configuration, t) and the state of the networks, on nothing else: the data order, augmentations,
masks, negatives and dropout of step t are all seeded by (seed, t) or (seed, epoch, index). A run that was killed and resumed
therefore ends in the same bits as one that was not, and two processes compute what one would.

**Stopping.** Ctrl-C and SIGTERM let the current step finish, save, and say how to go on (`stopping.py`). A loss that is no number
stops the run before the optimiser can spread it, and names the term.

**Processes.** One or many, whole or split: `parallel.py` has what differs, and the loop is the same.
"""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from semmim_mini.config import Config, to_yaml
from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint
from semmim_mini.training.compiling import compile_layers, eager
from semmim_mini.training.jobs import open_job
from semmim_mini.training.logbook import Logbook
from semmim_mini.training.optimizer import set_rate
from semmim_mini.training.parallel import join_processes, spread
from semmim_mini.training.precision import choose_precision
from semmim_mini.training.records import chance_levels, make_record
from semmim_mini.training.schedules import Plan, plan_at
from semmim_mini.training.step import StepOutput
from semmim_mini.training.stopping import GracefulStop, agreed, how_to_go_on, losing_workers
from semmim_mini.training.tensorboard import Curves, require_tensorboard


class Diverged(UserError):
    """A loss or gradient is no finite number."""


@dataclass
class Finished:
    """How a run ended."""

    steps: int
    interrupted: bool
    seconds: float  # of training in this process, without start-up
    images_per_second: float  # over all processes
    device: str
    precision: str


class Training:
    """One run in one folder: pre-training, or fine-tuning for a task.

    Args:
        config: the whole configuration.
        folder: where everything is written; must be new, unless `resume`.
        resume: go on from the folder's last checkpoint; the configuration must be the stored one.
    """

    def __init__(self, config: Config, folder: Path, resume: bool = False):
        self.config, self.folder = config, Path(folder)
        self.resumed = self._claim_folder(resume)
        if config.run.tensorboard:
            require_tensorboard()
        self.precision, self.precision_reason = choose_precision(config.run.precision, "cuda" if torch.cuda.is_available() else "cpu")
        self.accelerator = join_processes(self.precision)
        self.main = self.accelerator.is_main_process
        torch.manual_seed(config.run.seed)
        self.job = open_job(config, self.resumed)
        self.pairs, self.tokenizer, self.model = self.job.pairs, self.job.tokenizer, self.job.model
        self.model.to(self.accelerator.device)
        self.teaches = self.job.teaches
        if self.resumed:
            checkpoint.load_weights(self.model, self.resumed)
        if config.run.compile:
            compile_layers(self.model)
        self.spread = spread(config, self.accelerator, self.job)
        self.start, self.best_score = 0, -math.inf
        self.stop_requested = False
        if self.resumed:
            self._restore()

    def _claim_folder(self, resume: bool) -> Path | None:
        """The checkpoint to resume from, or None for a new run. A used folder is never written over by accident."""
        used = (self.folder / "config.yaml").exists()
        if not resume:
            if used:
                raise UserError(f"{self.folder} already holds a run; add --resume to go on, or choose another --out")
            return None
        if not used:
            raise UserError(f"{self.folder} holds no run to resume; leave out --resume to start one")
        if checkpoint.read_pointer(self.folder, "last") is None:
            return None  # stopped before the first checkpoint: begin again, same configuration
        last = checkpoint.find(self.folder)
        checkpoint.require_same(checkpoint.read_config(last), self.config)
        return last

    def _restore(self) -> None:
        checkpoint.load_optimizer(self.model, self.spread.adamw, self.resumed)
        state = checkpoint.read_state(self.resumed)
        self.start, self.best_score = state["step"], state["best_score"]
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])

    # the loop ---------------------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> Finished:
        """Train up to step `until` (default: all steps); saves at the end, at intervals and when interrupted."""
        config, until = self.config, min(until or self.config.run.steps, self.config.run.steps)
        # May object to the data: before anything is written.
        loader = self.job.loader(self.start, until, self.accelerator.process_index, self.accelerator.num_processes)
        if self.main:
            self._open_folder()
        log = self._open_log()
        began, step = time.perf_counter(), self.start
        with ExitStack() as stack:
            stack.callback(log.close)
            stack.enter_context(GracefulStop(self))
            stack.enter_context(losing_workers(config, self.folder))
            waited = time.perf_counter()
            for batch in loader:
                waiting = time.perf_counter() - waited
                record = self._one_step(self._on_device(batch), step)
                step += 1
                elapsed = time.perf_counter() - waited
                record |= {"seconds": elapsed, "seconds_waiting_for_data": waiting, "images_per_second": config.data.batch_size / elapsed}
                log.step(record)
                self._count_skipped(batch.skipped, log)
                self.stop_requested = agreed(self.stop_requested, self.accelerator.device)
                best = step % config.run.eval_every == 0 and self._validate(step, log)
                if step % config.run.save_every == 0 or step == until or self.stop_requested or best:
                    self._save(step, best)
                if self.stop_requested:
                    log.say(f"interrupted after step {step}; everything is saved. Go on with: {how_to_go_on(config, self.folder)}")
                    break
                waited = time.perf_counter()
        return self._finished(step, time.perf_counter() - began)

    def _finished(self, step: int, seconds: float) -> Finished:
        images = max(step - self.start, 1) * self.config.data.batch_size
        device = _device_name(self.accelerator.device)
        return Finished(step, self.stop_requested, seconds, images / max(seconds, 1e-9), device, self.precision)

    def _open_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text(self.folder / "config.yaml", to_yaml(self.config))
            self.tokenizer.save_pretrained(str(self.folder / "tokenizer"))
            self.job.write_beside(self.folder)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror or error}; choose another --out") from error

    def _on_device(self, batch):
        """The loader pins its batches where there is a GPU, so that copies need not be waited for."""
        return batch.to(self.accelerator.device, non_blocking=self.accelerator.device.type == "cuda")

    def _open_log(self) -> Logbook:
        run = self.config.run
        curves = Curves(self.folder, self.start, self.config) if run.tensorboard and self.main else None
        return Logbook(self.folder, run.steps, self.start, run.log_every, quiet=not self.main, curves=curves)

    def close(self) -> None:
        """Leave the group of processes: what follows (report, figures) is the main process's alone, with a plain model."""
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        self.model = self.spread.finished(self.folder)
        if self.config.run.compile:
            self.model = eager(self.model)

    def _one_step(self, batch, step: int) -> dict:
        """Forward, backward, optimiser, teacher, memory. Returns the step's log record."""
        config, plan = self.config, plan_at(self.config, step)
        self.spread.prepare(batch, step)
        set_rate(self.spread.adamw, plan.lr_factor)
        parts = batch.split(config.run.accumulate)
        outputs = []
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            seed = _step_seed(config.run.seed, step, i)
            torch.manual_seed(seed + self.accelerator.process_index)  # dropout only
            with ExitStack() as stack:
                if not last:  # gradients travel between processes once per optimiser step
                    stack.enter_context(self.spread.apart())
                outputs.append(self.spread.losses(part, plan, seed))
                total = sum(plan.weights[name] * loss for name, loss in outputs[-1].losses.items())
                _require_finite(outputs[-1], step, self.folder)
                self.accelerator.backward(total / len(parts))
        norm = self._update(plan, step)
        for output in outputs:
            self.job.step.remember(output.remember)
        record = make_record(step, outputs, plan, norm)
        return record | {"chance": chance_levels(config, len(self.tokenizer), record)}

    def _update(self, plan: Plan, step: int) -> float:
        """Clip, step, and let the teacher follow. Returns the gradient norm before clipping."""
        if plan.prototypes_frozen:
            for head in self.model.student.space.heads():
                head.prototypes.grad = None
        norm = self.spread.clip(self.config.optim.clip)
        if self.accelerator.scaler is None and not math.isfinite(norm):
            raise Diverged(
                f"the gradient of step {step + 1} is no finite number; lower optim.lr={self.config.optim.lr} or raise optim.warmup"
            )
        self.spread.optimizer.step()
        self.spread.optimizer.zero_grad(set_to_none=True)
        self.model.keep_temperature()
        if self.teaches:
            self.spread.update_teacher(plan.momentum)
        return norm

    def _validate(self, step: int, log: Logbook) -> bool:
        """A look at held-out data; True when it is the best so far."""
        with self.spread.looking():
            found = self.job.validate()
        log.say(f"validation after step {step}: {found.text}")
        better, self.best_score = found.score > self.best_score, max(found.score, self.best_score)
        return better

    def _save(self, step: int, best: bool) -> None:
        weights, averages = self.spread.tensors()
        if self.main:
            scaler = self.accelerator.scaler
            state = {"step": step, "best_score": self.best_score, "scaler": scaler.state_dict() if scaler else None}
            checkpoint.save(self.folder, weights, averages, self.tokenizer, self.config, state, best)
        self.accelerator.wait_for_everyone()

    def _count_skipped(self, names: list[str], log: Logbook) -> None:
        """Pictures that could not be read: named, counted, and too many stop the run."""
        for name in names:
            log.say(f"skipped unreadable picture {name}")
        self.skipped = getattr(self, "skipped", set()) | set(names)
        if len(self.skipped) > self.config.data.max_bad_share * len(self.pairs):
            raise UserError(
                f"{len(self.skipped)} of {len(self.pairs)} pictures could not be read, more than data.max_bad_share="
                f"{self.config.data.max_bad_share}; mend the data set or raise that share"
            )


def _step_seed(seed: int, step: int, part: int) -> int:
    """One number for (seed, step, micro-batch), far apart for neighbours."""
    return int(torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step * 1_009 + part)))


def _require_finite(output: StepOutput, step: int, folder: Path) -> None:
    """Stops before a bad loss can reach the weights, naming the term."""
    for name, loss in output.losses.items():
        if not torch.isfinite(loss):
            intact = f"the last checkpoint is intact: go on from it by --checkpoint {folder}"
            begin = intact if checkpoint.read_pointer(folder, "last") else "nothing is saved yet: begin again"
            raise Diverged(
                f"loss term {name} is {float(loss.detach())} at step {step + 1}; {begin} in a new folder, with a lower optim.lr, "
                f"run.precision fp32 or bf16, or a smaller losses.{name}.weight"
            )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
