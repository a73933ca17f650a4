r"""What a run trains: data, networks, step and validation, behind one interface that the loop drives.

| task [S: the paper's downstream tasks] | data | step | terms [F: ALBEF, BLIP] | best checkpoint by |
| --- | --- | --- | --- | --- |
| `pretrain`   | pairs     | `SemMIMStep` | all of `losses` | R@1, mean of both directions |
| `retrieval`  | pairs     | `SemMIMStep` | ITC, ITM        | the same |
| `captioning` | pairs     | `SemMIMStep` | caption         | caption loss |
| `vqa`        | questions | `AnswerStep` | answer          | accuracy |

Fine-tuning differs from pre-training in where the first weights come from and in which terms have a weight, and in nothing else:
the same loop saves, resumes, watches and reports.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from semmim_mini.config import Config
from semmim_mini.data.answers import AnswerList, make_answer_list
from semmim_mini.data.cache import CachedPairs
from semmim_mini.data.loader import PretrainLoader
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.question_loader import MirroredView, QuestionLoader
from semmim_mini.data.questions import open_questions
from semmim_mini.data.sources import open_pairs
from semmim_mini.data.views import TwoViews
from semmim_mini.errors import UserError
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives.masked_language import caption_loss
from semmim_mini.tasks.retrieval import evaluate_retrieval
from semmim_mini.tasks.vqa import AnswerStep, evaluate_vqa
from semmim_mini.training import checkpoint
from semmim_mini.training.fitting import require_fitting
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.startup import first_weights, make_tokenizer, prepare_step
from semmim_mini.training.step import SemMIMStep


@dataclass(frozen=True)
class Validation:
    """A look at held-out data during training."""

    score: float  # higher is better
    text: str  # for people


class PairsJob:
    """Image–text pairs: pre-training, and fine-tuning for retrieval or captions.

    Args:
        config: the whole configuration.
        resumed: the checkpoint folder that a resumed run goes on from, else None.
    """

    loader_class = PretrainLoader
    answers: AnswerList | None = None

    def __init__(self, config: Config, resumed: Path | None):
        self.config = config
        self.open_data()
        self.tokenizer = make_tokenizer(config, self.pairs, resumed)
        if resumed:
            require_fitting(config, resumed, len(self.tokenizer))
        self.model = SemMIM(config, len(self.tokenizer))
        self.fresh = [] if resumed else first_weights(self.model, config)  # parts that fine-tuning starts at random
        self.step = self.make_step()

    def open_data(self) -> None:
        self.pairs, self.validation = self._open("train"), self._open("val")

    def make_step(self) -> torch.nn.Module:
        return SemMIMStep(self.model)

    @property
    def teaches(self) -> bool:
        """Whether any step reads the teacher; terms join during a run and never leave, so the last step knows."""
        return self.step.needs_teacher(plan_at(self.config, self.config.run.steps - 1))

    def loader(self, start: int, until: int, rank: int, world: int) -> PretrainLoader:
        """The batches of steps `start` to `until`, this process's share of each."""
        data = self.config.data
        return self.loader_class(
            self.pairs,
            self.tokenizer,
            self._views(),
            batch_size=data.batch_size,
            seed=self.config.run.seed,
            start_step=start,
            stop_step=until,
            rank=rank,
            world=world,
            workers=data.workers,
            max_length=data.max_length,
            mlm_share=data.mlm_share,
        )

    def _views(self) -> TwoViews:
        data = self.config.data
        return TwoViews(data.resolution, scale=data.crop_scale, randaugment=(2, 7) if data.randaugment else None)

    def prepare(self, batch, step: int) -> None:
        """What falls due at a step: place prototypes, fit the codebook."""
        prepare_step(self.model, batch, step)

    def validate(self) -> Validation:
        size = self.config.run.eval_size
        if self.config.task.name == "captioning":
            loss = held_out_caption_loss(self.model, self.tokenizer, self.validation, size)
            return Validation(-loss, f"caption loss {loss:.3f}")
        result = evaluate_retrieval(self.model, self.tokenizer, self.validation, limit=size)
        i2t, t2i = result["image_to_text"]["r1"], result["text_to_image"]["r1"]
        return Validation((i2t + t2i) / 2, f"R@1 image→text {i2t:.1%}, text→image {t2i:.1%} (chance {result['chance_r1']:.2%})")

    def write_beside(self, folder: Path) -> None:
        """What else belongs into the run's folder."""

    def _open(self, split: str):
        data = self.config.data
        size = data.train_size if split == "train" else self.config.run.eval_size
        pairs = open_pairs(
            data.source, split, resolution=data.resolution, seed=self.config.run.seed, size=size, max_bad_share=data.max_bad_share
        )
        return CachedPairs(pairs) if data.cache and split == "train" and not hasattr(pairs, "read") else pairs


@torch.no_grad()
def held_out_caption_loss(model: SemMIM, tokenizer, pairs: Pairs, limit: int) -> float:
    """Mean loss per word of one caption of each of the first `limit` images; 64 images at once."""
    was_training, device, data = model.training, next(model.parameters()).device, model.config.data
    model.eval()
    total = count = 0.0
    for batch in held_out_batches(pairs, tokenizer, resolution=data.resolution, max_length=data.max_length, count=limit, device=device):
        words = int(batch.attention_mask[:, 1:].sum())
        logits = model.decoder(batch.input_ids, batch.attention_mask, model.student.image(batch.images[0]))
        total, count = total + words * float(caption_loss(logits, batch.input_ids, batch.attention_mask)), count + words
    model.train(was_training)
    return total / count


class QuestionsJob(PairsJob):
    """Questions about images: fine-tuning for answers."""

    loader_class = QuestionLoader

    def open_data(self) -> None:
        self.pairs, self.validation = self._questions("train"), self._questions("val")
        self.answers = make_answer_list(self.pairs)

    def make_step(self) -> torch.nn.Module:
        return AnswerStep(self.model)

    def _views(self) -> MirroredView:
        return MirroredView(self.config.data.resolution)

    def validate(self) -> Validation:
        found = evaluate_vqa(self.model, self.tokenizer, self.validation, self.config.run.eval_size, answers=self.answers)["overall"]
        return Validation(found["accuracy"], f"accuracy {found['accuracy']:.1%} (commonest answers {found['majority']:.1%})")

    def write_beside(self, folder: Path) -> None:
        checkpoint.write_text(folder / "answers.json", self.answers.to_json())

    def _questions(self, split: str):
        data = self.config.data
        size = data.train_size if split == "train" else self.config.run.eval_size
        return open_questions(
            data.source,
            split,
            resolution=data.resolution,
            seed=self.config.run.seed,
            size=size,
            cache=data.cache and split == "train",
            max_bad_share=data.max_bad_share,
        )


def open_job(config: Config, resumed: Path | None) -> PairsJob:
    """The job that `config.task` names.

    Raises:
        UserError: a loss of answers where nobody asks; and whatever data, tokenizer or checkpoint have to object to.
    """
    task, weight = config.task.name, config.losses.answer.weight
    if weight > 0 and task != "vqa":
        raise UserError(f"losses.answer.weight={weight} has no questions in task {task}; use: semmim-mini finetune vqa --checkpoint RUN")
    return (QuestionsJob if config.task.name == "vqa" else PairsJob)(config, resumed)
