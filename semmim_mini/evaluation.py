r"""`semmim-mini evaluate`: what a checkpoint can do, one task at a time, every figure beside what knowing nothing gives.

| task | pairs | beside |
| --- | --- | --- |
| retrieval  | any                        | chance 1/n; ITC alone beside ITC re-ranked by ITM |
| captioning | any                        | the captions of another image, and one caption for all |
| vqa        | scenes or VQA v2           | the commonest answer to the same words, another image |
| zero-shot  | single objects of scenes, or DIR/class/*.jpg | chance, the commonest class |
| probes     | the same, and patches of scenes              | untrained network, pixels |
| grounding  | scenes                     | a random patch, the middle, any object |
"""

from dataclasses import dataclass
from pathlib import Path

from semmim_mini.config import Config
from semmim_mini.data.answers import AnswerList, make_answer_list, read_answer_list
from semmim_mini.data.labelled import open_labelled
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.questions import open_questions
from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.captioning import evaluate_captioning
from semmim_mini.tasks.decoding import Decoding
from semmim_mini.tasks.grounding import evaluate_grounding
from semmim_mini.tasks.probes import evaluate_probes
from semmim_mini.tasks.retrieval import evaluate_retrieval
from semmim_mini.tasks.vqa import evaluate_vqa
from semmim_mini.tasks.zero_shot import evaluate_zero_shot


@dataclass(frozen=True)
class Options:
    """What can be chosen when a checkpoint is evaluated."""

    data: str | None = None  # other data than the run's own
    split: str | None = None  # data.report_split; of single objects test_pictures, because all others show cutouts of training
    limit: int | None = None  # images or questions; None for run.report_size, of probes and zero-shot for all pictures
    rerank: int = 0  # retrieval: how many of the nearest ITM puts in order anew
    fold: int | None = None  # retrieval: images of a fold, 1000 for the 1k protocol
    method: str = "rank"  # vqa: rank | generate
    beams: int = 3  # captioning; 1 is greedy
    results: Path | None = None  # captioning, vqa: also the official results file


def open_held_out(config: Config, source: str | None = None, split: str | None = None, size: int | None = None) -> Pairs:
    """The pairs of report.json: the run's own, or of another source or split; of scenes as many as `run.report_size`, or `size`."""
    data = config.data
    return open_pairs(
        source or data.source,
        split or data.report_split,
        resolution=data.resolution,
        seed=config.run.seed,
        size=size or config.run.report_size,
        max_bad_share=data.max_bad_share,
    )


def open_data(task: str, config: Config, options: Options):
    """The held-out data of a task, as its evaluation takes it.

    Raises:
        UserError: an unknown task, data that cannot be opened or that the task cannot use.
    """
    if task not in TASKS:
        raise UserError(f"task {task!r} is none that can be evaluated; choose one of {', '.join(TASKS)}")
    source, split = options.data or config.data.source, options.split or config.data.report_split
    sizes = {"resolution": config.data.resolution, "seed": config.run.seed}
    if task == "vqa":
        return open_questions(source, split, size=_limit(config, options), cache=True, max_bad_share=config.data.max_bad_share, **sizes)
    if task in ("zero-shot", "probes"):
        return open_labelled(source, options.split or ("test_pictures" if source == "scenes" else split), **sizes)
    return open_held_out(config, source, split, _limit(config, options))


def _limit(config: Config, options: Options) -> int:
    return options.limit or config.run.report_size


def evaluate(task: str, model: SemMIM, tokenizer, data, options: Options, answers: AnswerList | None = None) -> dict:
    """The figures of one task.

    Args:
        data: from `open_data`.
        answers: of vqa: the list to choose from; by default made from the training questions of the same source.
    """
    found = TASKS[task](model, tokenizer, data, options, answers)
    return {"task": task, "data": data.name, **found}


def _retrieval(model, tokenizer, pairs, options, answers) -> dict:
    return evaluate_retrieval(model, tokenizer, pairs, _limit(model.config, options), rerank=options.rerank, fold=options.fold)


def _captioning(model, tokenizer, pairs, options, answers) -> dict:
    decoding = Decoding(method="greedy" if options.beams == 1 else "beam", beams=options.beams, max_length=model.config.data.max_length)
    return evaluate_captioning(model, tokenizer, pairs, _limit(model.config, options), decoding, results=options.results)


def _vqa(model, tokenizer, questions, options, answers) -> dict:
    answers = answers or make_answer_list(_training_questions(model.config, options))
    how = {"method": options.method, "results": options.results, "wrong_images": True}
    return evaluate_vqa(model, tokenizer, questions, _limit(model.config, options), answers=answers, **how)


def _training_questions(config: Config, options: Options):
    data = config.data
    return open_questions(options.data or data.source, "train", resolution=data.resolution, seed=config.run.seed, size=data.train_size)


def stored_answers(checkpoint: str | Path) -> AnswerList | None:
    """The list of answers beside a fine-tuned run, given the run's folder or one of its checkpoints."""
    folder = Path(checkpoint)
    for place in (folder, folder.parent.parent):
        if (place / "answers.json").is_file():
            return read_answer_list(place / "answers.json")
    return None


def _zero_shot(model, tokenizer, labelled, options, answers) -> dict:
    return evaluate_zero_shot(model, tokenizer, labelled, limit=options.limit)


def _probes(model, tokenizer, labelled, options, answers) -> dict:
    config = model.config
    sizes = {"resolution": config.data.resolution, "seed": config.run.seed}
    source = options.data or config.data.source
    train = open_labelled(source, "train", **sizes)
    split = options.split or "test_pictures"
    scenes = tuple(open_pairs("scenes", s, size=1_000, **sizes) for s in ("train", split)) if source == "scenes" else None
    return evaluate_probes(model, train, labelled, scenes, limit=options.limit)


def _grounding(model, tokenizer, pairs, options, answers) -> dict:
    return evaluate_grounding(model, tokenizer, pairs, _limit(model.config, options))


TASKS = {
    "retrieval": _retrieval,
    "captioning": _captioning,
    "vqa": _vqa,
    "zero-shot": _zero_shot,
    "probes": _probes,
    "grounding": _grounding,
}


def as_lines(report: dict, path: str = "") -> list[str]:
    """Every figure of a report as a line of its own, "image_to_text r1  0.042"; tables of many rows are left to the file."""
    lines = []
    for key, value in report.items():
        name = f"{path} {key}".strip()
        if isinstance(value, dict):
            lines += as_lines(value, name)
        elif isinstance(value, float):
            lines.append(f"{name}  {value:.4g}")
        elif value is not None and not isinstance(value, list):
            lines.append(f"{name}  {value}")
    return lines
