"""`semmim-mini plan` as it is typed."""

import json
import subprocess
import sys

from semmim_mini import cli
from semmim_mini.config import Config, to_yaml

WANTED = ["plan", "--preset", "base", "--gpus", "8", "--gpu", "a100-80g", "--images", "4e6", "--epochs", "30"]


def test_the_table_has_every_part(capsys):
    assert cli.main(WANTED) == 0
    said = capsys.readouterr().out
    for text in (
        *("117,188 steps, 120,000,512 images seen", "at 35% of the peak", "379,824,189", "4,000 shards", "fits into the 73.6 GiB of 80"),
        *("masked student", "gradients again, for DDP", "logits, MIM", "not in these figures: waiting for data", "NVIDIA A100 data sheet"),
    ):
        assert text in said, text
    assert max(map(len, said.splitlines())) <= 140


def test_json_holds_the_same_figures(capsys):
    assert cli.main([*WANTED, "--json", "--utilisation", "0.7"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["total"] == 379_824_189 == sum(found["parameters"]["parts"].values())
    parts = found["flops"]["per_gpu_and_micro_batch"].values()
    assert found["flops"]["per_step"] == 8 * sum(sum(part.values()) for part in parts)
    assert found["memory"]["fits"] is True and found["run"]["steps"] == 117_188
    cli.main([*WANTED, "--json"])
    assert json.loads(capsys.readouterr().out)["run"]["hours"] == 2 * found["run"]["hours"]


def test_what_does_not_fit_is_not_hidden(capsys):
    assert cli.main(["plan", "--gpu", "rtx4090"]) == 0
    said = capsys.readouterr().out
    assert "DOES NOT FIT into the 22.1 GiB of 24" in said and "run.accumulate=" in said
    assert "shards," not in said  # of a collection whose size was not told


def test_settings_and_files(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(to_yaml(Config()), encoding="utf-8")
    assert cli.main(["plan", "--config", str(tmp_path / "config.yaml"), "--gpus", "1", "--set", "data.batch_size=8"]) == 0
    assert "preset tiny" in capsys.readouterr().out
    assert cli.main(["plan", "--gpu", "abacus"]) == 2
    assert capsys.readouterr().err.startswith("semmim-mini: --gpu 'abacus' is not known; choose one of t4, ")


def test_a_step_here_stands_beside_its_prediction(capsys):
    settings = ["--set", "data.batch_size=6", "--set", "run.accumulate=3", "--set", "run.precision=fp32"]
    assert cli.main(["plan", "--preset", "tiny", "--gpus", "1", "--measure", "--json", *settings]) == 0
    here = json.loads(capsys.readouterr().out)["here"]
    assert here["measured"]["b"] == 2
    assert here["predicted"]["parameters"] == here["measured"]["parameters"]
    assert here["predicted"]["flops"] == here["measured"]["flops"]
    assert cli.main(["plan", "--preset", "tiny", "--gpus", "1", "--measure", *settings]) == 0
    assert "one step here:" in capsys.readouterr().out


def test_a_step_that_has_no_room_here_is_not_tried(capsys):
    assert cli.main(["plan", "--gpus", "1", "--measure", "--set", "data.batch_size=65536"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("semmim-mini: --measure with b=65536 takes about ") and said.endswith("set data.batch_size lower\n")


def test_planning_does_not_load_torch():
    code = "import sys; from semmim_mini.cli import main; main(['plan']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
