"""A comparison read back, and its statistics: tables and simple cases by hand."""

import math

import pytest
import torch

from semmim_mini.course.comparison import (
    CLAIMS,
    Claim,
    Comparison,
    Interval,
    Judged,
    against,
    as_markdown,
    bootstrap_interval,
    judge,
    main,
    power_of,
    seeds_for,
    shipped_comparison,
    sign_flip_p,
    t_interval,
    t_quantile,
)
from semmim_mini.errors import UserError


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def small(tmp_path):
    lines = ["row,seed,metric,value,settings"]
    for row, settings, cider in (("A0", "losses.mim.weight=0 losses.consensus.weight=0", (1, 2, 4)), ("A8", "", (2, 4, 7))):
        lines += [f"{row},{seed},cider,{value},{settings}" for seed, value in enumerate(cider)]
    lines.append("A8,2,ami,0.5,")
    (tmp_path / "ablation.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Comparison(tmp_path / "ablation.csv")


def test_a_comparison_is_read_back(small):
    assert small.rows == ["A0", "A8"] and small.seeds("A8") == [0, 1, 2]
    assert small.settings == {"A0": ("losses.mim.weight=0", "losses.consensus.weight=0"), "A8": ()}
    assert small.values("A8", "cider").tolist() == [2, 4, 7] and small.values("A0", "ami").tolist() == []
    assert small.has("A8", "ami") and not small.has("A0", "ami")
    assert small.difference("A8", "A0", "cider").tolist() == [1, 2, 3]
    assert small.difference("A8", "A0", "ami").tolist() == []  # no seed that both have


@pytest.mark.parametrize("text", [None, "row,seed\nA0,0\n", "row,seed,metric,value,settings\nA0,0,cider,much,\n", "x" * 200_000])
def test_no_table_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "ablation.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"ablation\.csv is no table of semmim-mini ablate"):
        Comparison(tmp_path / "ablation.csv")


def test_the_shipped_one_has_what_the_notebook_reads():
    found = shipped_comparison()
    assert {"A0", "A1", "A2", "A4", "A8"} <= set(found.rows)
    needed = (
        "r1_image_to_text",
        "gflop_per_image",
        "training_seconds",
        "steps",
        "middle_over_random",
        "follows",
        "follows_ceiling",
    )
    assert all(found.has(row, figure) for row in found.rows for figure in needed)
    assert all(found.has(row, figure) for row in ("A0", "A8") for figure in ("vqa_accuracy", "cider"))


def test_t_by_the_table():
    assert t_quantile(3) == pytest.approx(4.303, abs=1e-3) and t_quantile(10) == pytest.approx(2.262, abs=1e-3)
    found = t_interval(numbers(1, 2, 3))  # mean 2, s 1
    assert found.mean == 2 and found.high - 2 == pytest.approx(4.303 / math.sqrt(3), abs=1e-3) == 2 - found.low


def test_verdicts():
    assert [Interval(0, *ends).verdict for ends in ((-1, 1), (0.5, 1), (-2, -1))] == ["contains 0", "above 0", "below 0"]


def test_the_bootstrap_stays_within_what_was_seen():
    found = bootstrap_interval(numbers(1, 2, 6))
    assert found.mean == 3 and found.low >= 1 and found.high <= 6
    assert bootstrap_interval(numbers(2, 2, 2))[1:] == (2, 2)


@pytest.mark.parametrize(
    ("differences", "p"),
    [((1, 1, 1), 2 / 8), ((1, 1, -1), 1.0), ((1, 2, 4), 2 / 8), ((3, 1, -1), 6 / 8), ((1,) * 6, 2 / 64)],
)
def test_flipped_signs_by_hand(differences, p):
    assert sign_flip_p(numbers(*differences)) == p


def test_power_is_the_level_where_there_is_nothing_and_one_where_there_is_much():
    assert power_of(0.0, 5) == pytest.approx(0.05, abs=1e-6) and power_of(20.0, 5) == pytest.approx(1, abs=1e-3)
    assert power_of(0.5, 34) == pytest.approx(0.8, abs=0.01)  # a textbook's: 34 pairs for half a spread
    assert seeds_for(0.5) == 34 and seeds_for(-0.5) == 34


def test_claims_are_judged_together_more_strictly(small):
    claims = (Claim("all of it", "A8", "A0", ("cider", "ami")), Claim("of rows that are not there", "A5", "A4", ("cider",)))
    (one,) = judge(small, claims)
    assert one.claim is claims[0] and one.figure == "cider" and one.differences == [1, 2, 3]
    assert one.alone == one.among_all  # of one comparison
    twice = judge(small, (claims[0], claims[0]))
    assert all(told.among_all.low < told.alone.low and told.among_all.high > told.alone.high for told in twice)


def test_claims_compare_rows_of_the_ablation():
    from semmim_mini.ablation.rows import ROWS
    from semmim_mini.ablation.table import METRICS

    known = {metric.name for metric in METRICS}
    assert all({claim.row, claim.without} <= ROWS.keys() and set(claim.figures) <= known for claim in CLAIMS)


def test_claims_as_a_table():
    sure = Judged(Claim("it helps", "A8", "A0", ("cider",)), "cider", [1, 1.1], Interval(1.05, 0.4, 1.7), Interval(1.05, -1, 3))
    unsure = sure._replace(figure="vqa_accuracy", differences=[0.01, -0.01], alone=Interval(0.0, -0.1, 0.1))
    _, _, first, second, _, end = as_markdown([sure, unsure]).split("\n")
    assert first == "| it helps | A8 − A0 | CIDEr | **+1.050** | +0.400 to +1.700 | +1.000, +1.100 |"
    assert second == "| it helps | A8 − A0 | VQA accuracy (points) | +0.0 | -10.0 to +10.0 | +1.0, -1.0 |"
    assert end.startswith("Of 2 intervals 1 exclude 0 (set bold), 0 of them")


def test_claims_of_a_file_as_a_command(tmp_path, capsys):
    from semmim_mini.data.cutouts import samples_folder

    assert main([str(samples_folder() / "ablation" / "ablation.csv")]) == 0
    assert "| all of it together helps | A8 − A0 | CIDEr |" in capsys.readouterr().out
    assert main([str(tmp_path / "none.csv")]) == 2 and "is no table of semmim-mini ablate" in capsys.readouterr().err


def test_every_other_row_beside_one(small):
    (only,) = against(small, "A8")
    assert only.text == "losses.mim.weight=0 losses.consensus.weight=0" and (only.row, only.without) == ("A0", "A8")
    with pytest.raises(UserError, match=r"--against 'A9' is no row of this comparison; choose from A0, A8"):
        against(small, "A9")


def test_a_sweep_as_a_command(capsys):
    from semmim_mini.data.cutouts import samples_folder

    file = str(samples_folder() / "ablation" / "isolation.csv")
    assert main([file, "--against", "A8"]) == 0
    told = capsys.readouterr().out
    assert (
        told.startswith("| settings | rows |")
        and "| image.isolation=none | A8 isolation=none − A8 | codes within a picture, AMI | -0.011 |" in told
    )
    assert main([file, "--against", "A0"]) == 2 and "choose from A8, A8 isolation=mask" in capsys.readouterr().err
