"""The main job: pre-train on composed scenes for a few minutes, then say what was learned, and what was not."""

from pathlib import Path

from semmim_mini.config import Config
from semmim_mini.experiment import run_experiment
from semmim_mini.instruments.mask_numbers import Follows
from semmim_mini.report import summary


def run_demo(config: Config, folder: Path) -> int:
    """Train, report, draw; returns the exit code."""
    result = run_experiment(config, folder)
    if result.report is None:
        return 130
    print()
    print(summary(result.report))
    print()
    print(verdict(result.report))
    run = result.report["run"]
    print(f"\n{run['seconds'] / 60:.1f} minutes on {run['device']}. Look at {folder / 'figures'}, then at README.md.")
    return 0


def verdict(report: dict) -> str:
    """What to make of the numbers, one sentence for each part that was measured, decided by the measurement it speaks of."""
    speakers = {
        "retrieval": _retrieval,
        "masking": _masking,
        "semantics": _semantics,
        "mim": _mim,
        "collapse": _collapse,
        "matching": _matching,
    }
    return "\n".join(f"- {speak(report[part])}" for part, speak in speakers.items() if part in report)


def _retrieval(found: dict) -> str:
    times = min(found[way]["r1"] for way in ("image_to_text", "text_to_image")) / found["chance_r1"]
    return f"Images and captions were {'aligned' if times >= 10 else 'hardly aligned'}: at least {times:.0f} times chance."


def _masking(mask: dict) -> str:
    lie = f"{mask['named_text']:.0%} of what masks hide is named by the caption"
    found = f"{lie} (the middle of every picture: {mask['named_middle']:.0%}, random: {mask['named_random']:.0%})"
    if "follows" not in mask:
        return f"{found}."
    read = Follows(mask["follows"], mask["follows_error"], mask["follows_ceiling"], mask["follows_scenes"])
    return f"{found}; {read.verdict} (own − other {read.difference:+.3f} ± {read.error:.3f}, of {read.ceiling:.2f})."


def _semantics(codes: dict) -> str:
    def told(figure: str, reference: str) -> str:
        return "better" if codes[figure] > 1.05 * codes[figure + reference] else "no better"  # less than 5 % apart is a draw

    return (
        f"Within a picture, patch codes tell things apart {told('ami_within', '_pixel_kmeans')} than clusters of pixels and "
        f"{told('ami_within', '_random_init')} than an untrained network; across pictures they name them "
        f"{told('alike_across', '_pixel_kmeans')} than clusters of pixels."
    )


def _mim(mim: dict) -> str:
    known = mim["loss_marginal"] - mim["loss_masked"]
    text_alone = (mim["loss_marginal"] - mim["loss_all_masked"]) / max(known, 1e-9)
    if known <= 0:
        return "Masked modelling has not learned more than guessing yet."
    return f"Text alone gives away {max(text_alone, 0):.0%} of what masked modelling knows beyond guessing."


def _collapse(space: dict) -> str:
    if "patch_codes_per_batch_late" not in space:
        return f"{space['prototypes_used']} of {space['prototypes']} prototypes are in use."
    kept = space["patch_codes_per_batch_late"] / max(space["patch_codes_per_batch_early"], 1e-9)
    return f"Prototypes in use {'held' if kept >= 0.97 else 'shrank'} over the run (late/early {kept:.2f})."


def _matching(found: dict) -> str:
    accuracy = found["balanced_accuracy"]
    learned = "learned" if accuracy >= 0.55 else "has hardly begun"
    return f"Image–text matching {learned}: {accuracy:.0%} right where guessing is 50 %, over the last tenth of its steps."
