"""What a cell was measured at, read back."""

import pytest

from semmim_mini.ablation.cells import finished, folder_of
from semmim_mini.ablation.rows import ROWS
from semmim_mini.errors import UserError


def figures(out, content: bytes) -> None:
    path = folder_of(out, ROWS["A0"], 1) / "figures.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_cell_is_done_where_its_figures_are(tmp_path):
    assert finished(tmp_path, ROWS["A0"], 1) is None
    figures(tmp_path, b'{"cider": 0.5, "steps": 60}')
    assert finished(tmp_path, ROWS["A0"], 1) == {"cider": 0.5, "steps": 60} and finished(tmp_path, ROWS["A0"], 2) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"cider": "much"}', b'{"cider": NaN}', b'{"cider": [1]}']
)
def test_damaged_figures_are_named(tmp_path, content):
    figures(tmp_path, content)
    with pytest.raises(UserError, match=r"figures\.json .*; remove it, and the cell is measured anew"):
        finished(tmp_path, ROWS["A0"], 1)
