"""Every reader, fed with a few hundred broken inputs: the first ones of what `run.py` feeds by the hundred thousand."""

import hypothesis
import pytest
from fuzz_engine import Target, fuzz
from fuzz_targets import GROUPS
from hypothesis import strategies as st

from semmim_mini.config import Config, from_dict, to_dict, to_yaml
from semmim_mini.errors import UserError

INPUTS = 200


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_a_broken_input_gives_a_result_or_the_documented_error(group, tmp_path):
    for target in group(tmp_path):
        findings = fuzz(target, INPUTS // target.cost).findings
        assert not findings, f"{target.name}: {[(f.number, f.reason) for f in findings[:5]]}"


def test_what_a_fuzzer_has_to_find_is_found():
    """A reader that fails on a 7, one that talks too much, and one that says something nobody can print."""

    def read(data: bytes) -> None:
        if b"7" in data:
            raise KeyError("seven")
        if b"8" in data:
            raise UserError("8" * 5_000)
        if b"9" in data:
            raise UserError("\ud800")

    def pick(draw, data: bytes) -> bytes:
        return draw.choice((b"6", b"7", b"8", b"9"))

    tally = fuzz(Target("stand-in", (b"6", b"7"), pick, read), 50)
    assert tally.findings[0].number == -1  # the seed that gives no result
    assert {finding.data for finding in tally.findings} == {b"7", b"8", b"9"}
    assert tally.inputs == 50 and tally.results + tally.refusals + len(tally.findings) - 1 == 50 and tally.results > 0


def test_inputs_are_the_same_whatever_was_fed_before():
    target = Target("stand-in", (b"some text",), lambda draw, data: data + draw.randbytes(3), lambda data: None)
    alone = target.input(0, 7)
    assert [target.input(0, number) for number in range(8)][7] == alone
    assert len({target.input(seed, number) for seed in (0, 1) for number in range(8)}) == 16


# Settings, by structure: what no mutation of a text reaches ------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves | st.text(max_size=8), inner, max_size=3), max_leaves=8
)
groups = {group: values for group, values in to_dict(Config()).items() if isinstance(values, dict)}
places = st.sampled_from([(group, name) for group, values in groups.items() for name in values])


@hypothesis.given(st.dictionaries(places, anything, min_size=1, max_size=3))
@hypothesis.settings(max_examples=300)
def test_any_value_in_any_setting_is_taken_or_refused_by_name(values):
    tree: dict = {}
    for (group, name), value in values.items():
        tree.setdefault(group, {})[name] = value
    try:
        config = from_dict(tree)
    except UserError as error:
        assert len(str(error)) < 2_000 and any(word in str(error) for word in [*tree, *(name for _, name in values)])
    else:
        assert from_dict(to_dict(config)) == config and to_yaml(config)


@hypothesis.given(anything)
@hypothesis.settings(max_examples=300)
def test_any_value_as_the_whole_configuration_is_taken_or_refused(value):
    try:
        from_dict(value)
    except UserError as error:
        assert 0 < len(str(error)) < 2_000
