"""How work grows with shards and processes, and the page it is drawn on: the measuring, not the measurements."""

import json

import pytest

from semmim_mini.bench import page
from semmim_mini.bench.many import along_processes, along_shards
from semmim_mini.figures.growth import TITLES, growth_figure


def test_the_same_pictures_are_read_from_every_number_of_shards(tmp_path):
    pytest.importorskip("webdataset")
    rows = along_shards(tmp_path, (1, 3), pictures=6, laps=2)
    assert [row["size"] for row in rows] == [1, 3] and rows[0]["time"] == rows[0]["ideal"] == 1
    for row in rows:
        assert row["time"] > 0
        assert len(list((tmp_path / f"in-{row['size']}").rglob("*.tar"))) == row["size"]


def test_processes_train_together_and_apart(tiny):
    rows = along_processes(tiny(), 30, (1, 2), repeats=1)
    assert [row["size"] for row in rows] == [1, 2]
    assert rows[0]["time"] == rows[0]["apart"] == 1
    assert rows[1]["time"] > 0 and rows[1]["apart"] > 0


GROWTH = {
    axis: [{"size": size, "ideal": size / 4, "time": size / 5, "memory": size / 6} for size in (2, 4, 8)]
    for axis in ("b", "n", "k", "depth", "queue")
} | {
    "shards": [{"size": size, "ideal": 1.0, "time": 1.0, "memory": None} for size in (1, 8, 64)],
    "processes": [{"size": size, "ideal": 1.0, "time": 1.0 + size / 10, "apart": 1.0 + size / 20, "memory": None} for size in (1, 2)],
}


def test_the_figure_shows_every_axis_beside_its_ideal():
    drawn = growth_figure(GROWTH)
    assert [axes.get_title(loc="left") for axes in drawn.figure.axes] == [TITLES[axis] for axis in GROWTH]
    assert drawn.number["b time"] == 8 / 5 and drawn.number["processes apart"] == 1.1
    assert "shards memory" not in drawn.number
    for axes, rows in zip(drawn.figure.axes, GROWTH.values(), strict=True):
        ideal, *measured = axes.lines
        assert list(ideal.get_ydata()) == [row["ideal"] for row in rows] and measured
        assert axes.get_ylim()[0] == 0


def test_what_did_not_fit_into_memory_has_no_point():
    drawn = growth_figure({"b": [*GROWTH["b"][:2], {"size": 8, "ideal": 2.0, "time": None, "memory": None}]})
    assert all(len(line.get_xdata()) == 2 for line in drawn.figure.axes[0].lines[1:])


def test_as_a_command(tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("webdataset")
    monkeypatch.setattr(page, "preset", lambda name: tiny("data.vocab_size=300"))
    monkeypatch.setattr(page, "along_shards", lambda folder, counts: along_shards(folder, counts, pictures=4, laps=1))
    monkeypatch.setattr(page, "along_processes", lambda *given: GROWTH["processes"])
    assert page.main(["--out", str(tmp_path / "new"), "--shards", "1", "2"]) == 0
    growth = json.loads((tmp_path / "new" / "growth.json").read_text())["growth"]
    assert set(growth) == set(TITLES) and (tmp_path / "new" / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "growth.png" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert page.main(["--out", str(tmp_path / "file" / "new")]) == 2
    assert "choose another --out" in capsys.readouterr().err
