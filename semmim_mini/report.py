r"""report.json: what a run learned, in numbers, from held-out pairs. The same function serves `pretrain`, `demo` and `evaluate`.

retrieval   R@K both ways beside chance
masking     do masks lie on what captions name, and do they move with the caption? (scenes only: it takes ground truth)
semantics   do patch codes tell concepts apart? (scenes only)
mim         the shortcut figures
collapse    prototypes in use, now and over the run
run         what was run, where, how long
"""

import json
from pathlib import Path

import torch

from semmim_mini.data.pairs import Pairs
from semmim_mini.instruments.collapse import codes_over_the_run, collapse
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.instruments.mask_quality import mask_quality, reading, untrained_masks
from semmim_mini.instruments.semantics import semantics
from semmim_mini.instruments.shortcut import shortcut
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.retrieval import evaluate_retrieval
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.step import SemMIMStep

INSTRUMENT_IMAGES = 256


def make_report(model: SemMIM, tokenizer, pairs: Pairs, *, records: list[dict] = ()) -> dict:
    """Every figure that this model and these pairs allow.

    Args:
        pairs: held-out pairs, of which retrieval ranks the first `run.report_size` (1,000 is the 1k protocol) and the instruments look at
            256 at most; without ground truth the parts `masking` and `semantics` are left out.
        records: metrics.jsonl of the run, for the course of the codes.
    """
    model.eval()
    config, data, step = model.config, model.config.data, SemMIMStep(model)
    report = {"pairs": pairs.name, "retrieval": evaluate_retrieval(model, tokenizer, pairs, config.run.report_size)}
    count, device = min(INSTRUMENT_IMAGES, config.run.report_size), next(model.parameters()).device
    batches = list(held_out_batches(pairs, tokenizer, resolution=data.resolution, max_length=data.max_length, count=count, device=device))
    losses = config.losses
    if batches[0].pairs[0].truth is not None:
        report["masking"] = mask_quality(step, batches) | untrained_masks(step, batches) | reading(step, tokenizer, batches)
        if losses.consensus.weight > 0 or (losses.mim.weight > 0 and losses.mim_target == "codes"):  # else no prototype was ever trained
            report["semantics"] = semantics(model, batches)
    if matched := [record["itm_balanced_accuracy"] for record in records if "itm_balanced_accuracy" in record]:
        late = matched[-max(1, len(matched) // 10) :]
        report["matching"] = {"balanced_accuracy": sum(late) / len(late), "chance": 0.5}
    if losses.mim.weight > 0 and losses.mim_target == "codes":
        report["mim"] = shortcut(step, batches)
        report["collapse"] = collapse(step, batches) | codes_over_the_run(records)
    return report


def run_facts(config, finished, seconds_total: float) -> dict:
    """The `run` part of a report."""
    return {
        "seconds": round(seconds_total, 1),
        "images_per_second": round(finished.images_per_second, 1),
        "steps": finished.steps,
        "seed": config.run.seed,
        "preset": config.preset,
        "device": finished.device,
        "precision": finished.precision,
        "torch": torch.__version__,
    }


def write_report(folder: Path, report: dict) -> Path:
    path = Path(folder) / "report.json"
    write_text(path, json.dumps(rounded(report), indent=2) + "\n")
    return path


def rounded(value, digits: int = 5):
    """Floats cut to what a reader, and a comparison across machines, can use."""
    if isinstance(value, dict):
        return {key: rounded(inner, digits) for key, inner in value.items()}
    return round(value, digits) if isinstance(value, float) else value


def summary(report: dict) -> str:
    """The report in a few honest lines: each figure beside its reference."""
    retrieval = report["retrieval"]
    i2t, t2i, chance = retrieval["image_to_text"], retrieval["text_to_image"], retrieval["chance_r1"]
    lines = [
        f"held-out pairs: {report['pairs']}, {retrieval['n_images']} images, {retrieval['n_texts']} captions",
        f"retrieval R@1   image→text {i2t['r1']:.1%}   text→image {t2i['r1']:.1%}   "
        f"chance {chance:.2%} ({i2t['r1'] / chance:.0f}× and {t2i['r1'] / chance:.0f}×)",
        f"retrieval R@10  image→text {i2t['r10']:.1%}   text→image {t2i['r10']:.1%}",
    ]
    if mask := report.get("masking"):
        lines += [
            f"masked patches on named objects: text-guided {mask['named_text']:.1%}; without reading: random {mask['named_random']:.1%}, "
            f"the middle {mask['named_middle']:.1%}, untrained networks {mask['named_untrained']:.1%}",
            f"of masked object patches, named: text-guided {mask['selectivity_text']:.1%}, chosen blindly {mask['selectivity_blind']:.1%}",
        ]
        if "follows" in mask:
            lines.append(
                f"masks of two captions, own − other: {mask['follows']:+.3f} ± {mask['follows_error']:.3f}; "
                f"a mask that ignores the words 0, one that knows the truth {mask['follows_ceiling']:+.2f}"
            )
    if codes := report.get("semantics"):
        lines += [
            f"patch codes against objects (AMI): {codes['ami']:.3f}, untrained {codes['ami_random_init']:.3f}, "
            f"k-means on pixels {codes['ami_pixel_kmeans']:.3f}, the number of the picture {codes['ami_picture_number']:.3f}",
            f"within a picture (AMI): {codes['ami_within']:.3f}, untrained {codes['ami_within_random_init']:.3f}, "
            f"k-means on pixels {codes['ami_within_pixel_kmeans']:.3f}",
            f"same code in two pictures, same thing: {codes['alike_across']:.1%}, untrained {codes['alike_across_random_init']:.1%}, "
            f"k-means on pixels {codes['alike_across_pixel_kmeans']:.1%}, chance {codes['alike_across_chance']:.1%}",
        ]
    if mim := report.get("mim"):
        lines.append(
            f"MIM loss: as trained {mim['loss_masked']:.2f}, wrong caption {mim['loss_shuffled_caption']:.2f}, "
            f"text alone {mim['loss_all_masked']:.2f}, a wrong one alone {mim['loss_all_masked_shuffled_caption']:.2f}, "
            f"guessing {mim['loss_marginal']:.2f}; "
            f"codes that survive a caption swap {mim['code_survives_caption_swap']:.0%}"
        )
    if space := report.get("collapse"):
        lines.append(
            f"prototypes in use on held-out images: {space['prototypes_used']} of {space['prototypes']} by patches, "
            f"{space['prototypes_used_cls']} by [CLS]"
        )
        for name, title in (("patch", "patches"), ("cls", "[CLS]")):
            if f"{name}_codes_per_batch_early" in space:
                early, late = (space[f"{name}_codes_per_batch_{when}"] for when in ("early", "late"))
                lines.append(f"prototypes in use per training batch by {title}, early → late: {early:.0f} → {late:.0f}")
    return "\n".join(lines)
