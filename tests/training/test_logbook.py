"""metrics.jsonl: every step once, through kills and resumes."""

import json

import pytest

from semmim_mini.errors import UserError
from semmim_mini.training.logbook import Logbook, read_metrics


def record(step: int, **more) -> dict:
    return {"step": step, "loss": {"itc": 1.5, "mim": 2.25}, "images_per_second": 12.3} | more


def test_every_step_is_a_line_of_json_at_once(tmp_path):
    log = Logbook(tmp_path, steps=3, start=0, log_every=1)
    for step in range(3):
        log.step(record(step))
        assert read_metrics(tmp_path / "metrics.jsonl") == [record(s) for s in range(step + 1)]  # not only after close
    log.close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [record(s) for s in range(3)]


def test_a_resumed_run_tells_no_step_twice(tmp_path):
    log = Logbook(tmp_path, steps=6, start=0, log_every=99)
    for step in range(4):
        log.step(record(step))
    log.close()
    log = Logbook(tmp_path, steps=6, start=2, log_every=99)
    for step in range(2, 6):
        log.step(record(step, resumed=True))
    log.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [line.get("resumed", False) for line in lines] == [False, False, True, True, True, True]


def test_a_line_cut_by_a_kill_is_left_out_and_written_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(0)) + "\n" + json.dumps(record(1))[:17])
    assert read_metrics(path) == [record(0)]
    log = Logbook(tmp_path, steps=3, start=1, log_every=99)
    log.step(record(1))
    log.close()
    assert read_metrics(path) == [record(0), record(1)]


@pytest.mark.parametrize(
    "line", [b"{", b"\xff\xfe", b"3", b"[]", b"{}", b'{"step": "1", "loss": {}}', b"9" * 5_000, b"[" * 100_000, b"", b"\0" * 9]
)
def test_a_damaged_line_is_named_unless_it_is_the_last(tmp_path, line):
    path, good = tmp_path / "metrics.jsonl", json.dumps(record(0)).encode()
    path.write_bytes(good + b"\n" + line)
    assert read_metrics(path) == [record(0)]
    path.write_bytes(good + b"\n" + line + b"\n" + good)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: .* is no record of a step; remove that line"):
        read_metrics(path)


def test_a_log_that_is_no_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read: Is a directory"):
        (tmp_path / "metrics.jsonl").mkdir()
        read_metrics(tmp_path / "metrics.jsonl")


def test_without_a_terminal_lines_come_at_intervals(tmp_path, capsys):
    log = Logbook(tmp_path, steps=4, start=0, log_every=2)
    for step in range(4):
        log.step(record(step))
    log.say("validated")
    log.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "step 2/4  itc 1.50  mim 2.25  12 images/s",
        "step 4/4  itc 1.50  mim 2.25  12 images/s",
        "validated",
    ]


def test_a_quiet_process_writes_and_says_nothing(tmp_path, capsys):
    log = Logbook(tmp_path, steps=4, start=0, log_every=1, quiet=True)
    log.step(record(0))
    log.say("hello")
    log.close()
    assert not (tmp_path / "metrics.jsonl").exists() and capsys.readouterr().out == ""
