"""The demo's sentences follow the numbers, whatever these are."""

import pytest

from semmim_mini import demo
from semmim_mini.demo import run_demo, verdict
from semmim_mini.experiment import Result
from semmim_mini.training.loop import Finished

GOOD = {
    "retrieval": {"image_to_text": {"r1": 0.05}, "text_to_image": {"r1": 0.03}, "chance_r1": 0.001},
    "masking": {
        **{"named_text": 0.5, "named_random": 0.25, "named_middle": 0.45},
        **{"follows": 0.3, "follows_error": 0.01, "follows_ceiling": 0.5, "follows_scenes": 200},
    },
    "semantics": {
        **{"ami_within": 0.5, "ami_within_pixel_kmeans": 0.4, "ami_within_random_init": 0.3},
        **{"alike_across": 0.03, "alike_across_pixel_kmeans": 0.05},
    },
    "mim": {"loss_marginal": 6.0, "loss_masked": 5.0, "loss_all_masked": 5.75},
    "collapse": {"prototypes": 8, "prototypes_used": 7, "patch_codes_per_batch_early": 100.0, "patch_codes_per_batch_late": 99.0},
    "matching": {"balanced_accuracy": 0.8, "chance": 0.5},
}


def said_of(part: str, **changed) -> str:
    return verdict({part: GOOD[part] | changed})


def test_one_sentence_for_each_part_that_was_measured():
    assert len(verdict(GOOD).splitlines()) == 6
    assert verdict({"pairs": "photos", "retrieval": GOOD["retrieval"]}).count("\n") == 0


def test_retrieval_is_judged_by_its_weaker_direction():
    assert "aligned: at least 30 times chance" in said_of("retrieval")
    assert "hardly aligned: at least 2 times" in said_of("retrieval", text_to_image={"r1": 0.002})


@pytest.mark.parametrize(
    ("difference", "sentence"), [(0.3, "these masks read the caption (own − other +0.300 ± 0.010, of 0.50)"), (0.005, "no sign of reading")]
)
def test_objectness_is_not_praised_as_reading(difference, sentence):
    said = said_of("masking", follows=difference)
    assert "50% of what masks hide is named by the caption (the middle of every picture: 45%, random: 25%); " in said
    assert sentence in said


def test_where_no_scene_has_two_captions_nothing_is_said_of_reading():
    mask = {name: value for name, value in GOOD["masking"].items() if name.startswith("named")}
    assert verdict({"masking": mask}).endswith("random: 25%).")


def test_a_narrow_lead_of_codes_is_a_draw():
    assert "better than clusters of pixels and better than an untrained network; across" in said_of("semantics")
    assert "no better than clusters of pixels and better" in said_of("semantics", ami_within=0.41)


def test_grouping_is_not_praised_as_naming():
    assert "across pictures they name them no better than clusters of pixels" in said_of("semantics")
    assert "across pictures they name them better than" in said_of("semantics", alike_across=0.06)


def test_what_text_alone_gives_away():
    assert "gives away 25 %" in said_of("mim").replace("25%", "25 %")  # 0.25 of the 1.0 nats between guessing and knowing
    assert "gives away 0%" in said_of("mim", loss_all_masked=7.0)
    assert "not learned more than guessing" in said_of("mim", loss_masked=6.5)


def test_prototypes_that_held_and_that_shrank():
    assert "held over the run (late/early 0.99)" in said_of("collapse")
    assert "shrank over the run (late/early 0.50)" in said_of("collapse", patch_codes_per_batch_late=50.0)
    assert "7 of 8 prototypes" in verdict({"collapse": {"prototypes": 8, "prototypes_used": 7}})


def test_matching_at_its_base_rate_is_said():
    assert "learned: 80%" in said_of("matching")
    assert "has hardly begun: 51%" in said_of("matching", balanced_accuracy=0.51)


def test_the_exit_code_of_an_interrupted_demo(monkeypatch, tmp_path):
    stopped = Finished(steps=3, interrupted=True, seconds=1.0, images_per_second=1.0, device="cpu", precision="fp32")
    monkeypatch.setattr(demo, "run_experiment", lambda config, folder: Result(folder, stopped, None))
    assert run_demo(None, tmp_path) == 130
