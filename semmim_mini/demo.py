"""The main job: pre-train on composed scenes for a few minutes, then say what was learned, and what was not."""

from pathlib import Path

from semmim_mini.config import Config
from semmim_mini.experiment import run_experiment
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
    print(
        f"\n{result.report['run']['seconds'] / 60:.1f} minutes on {result.report['run']['device']}. Look at {folder / 'figures'}, then at README.md."
    )
    return 0


def verdict(report: dict) -> str:
    """What to make of the numbers, each sentence decided by the measurement it speaks of."""
    retrieval, mask, codes, mim, space = (report[part] for part in ("retrieval", "masking", "semantics", "mim", "collapse"))
    times_chance = min(retrieval[way]["r1"] for way in ("image_to_text", "text_to_image")) / retrieval["chance_r1"]
    guided = mask["named_text"] / mask["named_random"]
    reads_caption = mask["selectivity_text"] / mask["selectivity_scene"]
    text_alone = (mim["loss_marginal"] - mim["loss_all_masked"]) / max(mim["loss_marginal"] - mim["loss_masked"], 1e-9)
    kept = space.get("patch_codes_per_batch_late", 0) / max(space.get("patch_codes_per_batch_early", 0), 1e-9)
    return "\n".join(
        [
            f"- Images and captions were {'aligned' if times_chance >= 10 else 'hardly aligned'}: at least {times_chance:.0f} times chance.",
            f"- Masks {'find' if guided >= 1.5 else 'hardly find'} what captions name ({guided:.2f}× random); "
            f"{'and they follow the caption' if reads_caption > 1.1 else 'mostly because they find objects'}: of the object patches they hide, "
            f"the named share is {reads_caption:.2f}× the scenes' own.",
            f"- Patch codes tell objects apart {'better' if codes['ami'] > codes['ami_pixel_kmeans'] else 'no better'} than k-means on pixels "
            f"and {'better' if codes['ami'] > codes['ami_random_init'] else 'no better'} than an untrained network.",
            f"- Text alone gives away {max(text_alone, 0):.0%} of what masked modelling knows beyond guessing.",
            f"- Prototypes in use {'held' if kept >= 0.97 else 'shrank'} over the run (late/early {kept:.2f}).",
        ]
    )
