r"""A trained model as a folder that others can load, on disk or on the Hugging Face hub.

    DIR/
      model.safetensors  config.yaml  tokenizer/    as in any checkpoint: `finetune --checkpoint DIR` works, too
      config.json                                   which library, which version: what the hub looks for
      report.json  answers.json                     if there are any
      README.md                                     the model card, written from the above; one that is there already is kept

`save_pretrained`, `from_pretrained` and `push_to_hub` come from huggingface_hub's mixin. Nothing is pickled or unpickled.
"""

import json
import os
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from safetensors.torch import save_model
from transformers import PreTrainedTokenizerBase

from semmim_mini import __version__
from semmim_mini.config import to_yaml
from semmim_mini.data.text import save_tokenizer
from semmim_mini.errors import UserError
from semmim_mini.experiment import load_run
from semmim_mini.model.semmim import SemMIM
from semmim_mini.plain_values import first_line
from semmim_mini.report import rounded
from semmim_mini.training.checkpoint import find, write_text

FILES = ["model.safetensors", "config.yaml", "config.json", "tokenizer/*", "report.json", "answers.json", "README.md"]
PIPELINES = {"captioning": "image-to-text", "vqa": "visual-question-answering"}  # other tasks: zero-shot-image-classification, as CLIP

# A figure, where it stands in a report, and what it has to be compared with.
FIGURES = [
    *(
        (f"{title}, R@{k}", f"retrieval.{way}.r{k}", "chance", f"retrieval.chance.{way}.r{k}")
        for way, title in (("image_to_text", "image → text"), ("text_to_image", "text → image"))
        for k in (1, 5, 10)
    ),
    ("matching, balanced accuracy", "matching.balanced_accuracy", "chance", "matching.chance"),
    ("hidden patches on named objects", "masking.named_text", "the middle of every picture", "masking.named_middle"),
    ("patch codes against objects, AMI", "semantics.ami", "untrained network", "semantics.ami_random_init"),
    ("MIM loss", "mim.loss_masked", "guessing", "mim.loss_marginal"),
    ("answers, accuracy", "overall.accuracy", "commonest answer to the same words", "overall.blind"),
    ("captions, CIDEr", "scores.cider", "captions of other images", "shuffled.cider"),
]

CARD = """---
{data}
---

# SemMIM-mini, {task}

Image and text encoders trained with SemMIM-mini, an independent and educational reproduction of SemMIM
([arXiv 2403.00249](https://arxiv.org/abs/2403.00249)). These are not the authors' weights, and no figure here is the paper's.

| | |
|---|---|
| task | {task} |
| preset | {preset} |
| data | {source} |
| steps | {steps} of {batch} pairs |
| pictures | {resolution} px |
| parameters | {parameters:.1f} million, of the student and its heads |

## Figures

{figures}

## How to load

```python
from semmim_mini.hub import Pretrained

loaded = Pretrained.from_pretrained("DIR or hub name")
model, tokenizer = loaded.model, loaded.tokenizer
```

## Limits

- A small model, trained on few pictures or on drawn scenes: made for learning how the method works, not for decisions about people
  or things.
- It knows what its captions named, and has their gaps and prejudices.
- The licence above is the code's. The pictures and captions it was trained on have terms of their own.
"""


class Pretrained(ModelHubMixin):
    """Model and tokenizer, which are of no use without each other.

    Args:
        report: the figures of report.json, for the card.
        answers: the text of answers.json, the list that a model for questions chooses from.
    """

    def __init__(self, model: SemMIM, tokenizer: PreTrainedTokenizerBase, report: dict | None = None, answers: str | None = None):
        self.model, self.tokenizer, self.report, self.answers = model, tokenizer, report, answers

    @classmethod
    def from_pretrained(cls, where: str | Path, **options) -> "Pretrained":
        """From a folder made by `save_pretrained`, a run's or a checkpoint's folder, or by name from the hub.

        Raises:
            UserError: nothing there, not reachable, damaged, or saved by a version with other settings.
        """
        try:
            return super().from_pretrained(str(where), **options)
        except UserError:
            raise
        except Exception as error:  # what the hub and its network raise changes with their versions
            reason = first_line(error)
            if Path(where).is_dir():
                raise UserError(f"the model in {where} cannot be read: {reason}; get it again") from error
            raise UserError(f"{where} is no folder here, and cannot be had from the Hugging Face hub: {reason}; check the name") from error

    @classmethod
    def _from_pretrained(
        cls, *, model_id, revision=None, cache_dir=None, force_download=False, local_files_only=False, token=None, **extra
    ) -> "Pretrained":
        if not Path(model_id).is_dir():
            get = {"revision": revision, "cache_dir": cache_dir, "force_download": force_download, "token": token}
            model_id = snapshot_download(model_id, local_files_only=local_files_only, allow_patterns=FILES, **get)
        return cls.of_folder(Path(model_id))

    @classmethod
    def of_folder(cls, folder: Path, which: str = "last") -> "Pretrained":
        """From a local folder, with the report and the answers that lie beside a run's checkpoints."""
        found = find(folder, which)
        try:
            model, tokenizer = load_run(found)
        except UserError as error:
            saved = (_read_json(found / "config.json") or {}).get("library_version", __version__)
            if saved == __version__:
                raise
            raise UserError(
                f"{found} was saved by semmim-mini {saved!s:.40}, and this is {__version__}: {error}; install that version"
            ) from error
        beside = found.parent.parent if found.parent.name == "checkpoints" else found
        answers = beside / "answers.json"
        return cls(model.eval(), tokenizer, _read_json(beside / "report.json"), answers.read_text("utf-8") if answers.is_file() else None)

    def _save_pretrained(self, folder: Path) -> None:
        draft = folder / f".model.{os.getpid()}.tmp"
        try:
            save_model(self.model, str(draft))
            os.replace(draft, folder / "model.safetensors")
            save_tokenizer(self.tokenizer, folder / "tokenizer")
            write_text(folder / "config.yaml", to_yaml(self.model.config))
            write_text(folder / "config.json", json.dumps({"library_name": "semmim-mini", "library_version": __version__}) + "\n")
            if self.report is not None:
                write_text(folder / "report.json", json.dumps(rounded(self.report), indent=2) + "\n")
            if self.answers is not None:
                write_text(folder / "answers.json", self.answers)
        except OSError as error:
            raise UserError(f"cannot save under {folder}: {error}; free space or choose another folder") from error
        finally:
            draft.unlink(missing_ok=True)

    def generate_model_card(self, **extra) -> ModelCard:
        """What this is, what it was trained on, how good it is and what it is not."""
        config, task = self.model.config, self.model.config.task.name
        data = ModelCardData(
            language="en",
            license="apache-2.0",
            library_name="semmim-mini",
            pipeline_tag=PIPELINES.get(task, "zero-shot-image-classification"),
            tags=["semmim", "vision-language", "image-text-retrieval", "masked-image-modeling", "model_hub_mixin"],
        )
        text = CARD.format(
            data=data.to_yaml(),
            task="pre-training" if task == "pretrain" else task,
            preset=config.preset,
            source=config.data.source.split(":")[0],  # what follows is a place on somebody's disk
            steps=f"{config.run.steps:,}",
            batch=config.data.batch_size,
            resolution=config.data.resolution,
            parameters=sum(p.numel() for _, p in self.model.trainable()) / 1e6,
            figures=figure_table(self.report or {}),
        )
        return ModelCard(text)


def figure_table(report: dict) -> str:
    """The figures of a report, each beside its reference; those that stand alone are left out."""
    if "image_to_text" in report:  # of a run fine-tuned for retrieval
        report = {"retrieval": report, **report}
    rows = []
    for title, path, reference, beside in FIGURES:
        value, other = _look_up(report, path), _look_up(report, beside)
        if all(type(number) in (int, float) and abs(number) < 1e15 for number in (value, other)):
            rows.append(f"| {title} | {value:.4g} | {reference} {other:.4g} |")
    if not rows:
        return "None were given."
    data = report.get("pairs") or report.get("data") or "held-out data"
    images, texts = (_look_up(report, f"retrieval.{name}") for name in ("n_images", "n_texts"))
    size = f", {images:,} images and {texts:,} captions" if all(type(n) is int and 0 <= n < 1e15 for n in (images, texts)) else ""
    return "\n".join([f"On {data!s:.200}{size}.", "", "| figure | value | beside |", "|---|---|---|", *rows])


def _look_up(report: dict, path: str):
    for key in path.split("."):
        report = report.get(key) if isinstance(report, dict) else None
    return report


def _read_json(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
