"""Pieces side by side: one that stops while another still saves leaves nobody waiting."""

import signal
import time
from functools import partial
from pathlib import Path

from semmim_mini.ablation.cells import Stopped
from semmim_mini.ablation.side_by_side import Piece, run_side_by_side


def stops_once_the_other_works(started: Path) -> None:
    while not started.exists():
        time.sleep(0.01)
    raise Stopped


def saves_for_a_while(started: Path) -> None:
    """As training does: asked to stop, it goes on until its step is done, and on the disk."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    started.touch()
    time.sleep(3)  # meanwhile the other process waits for its next piece
    (started.parent / "saved").touch()
    signal.signal(signal.SIGTERM, before)


def test_a_piece_that_stops_while_another_saves(tmp_path):
    works = {"stops": stops_once_the_other_works, "saves": saves_for_a_while}
    pieces = [Piece(name, tmp_path / name, partial(function, tmp_path / "started")) for name, function in works.items()]
    assert run_side_by_side(pieces, 2, say=print) is False
    assert (tmp_path / "saved").exists()
