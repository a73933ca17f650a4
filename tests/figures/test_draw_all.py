"""All figures of a run, as files."""

import json

import pytest

from semmim_mini.figures import caption_entropy, draw_all
from semmim_mini.objectives.masked_language import unigram_entropy

SCENES = {"losses", "health", "masks", "masks_two_captions", "isolation", "patterns", "codes", "pca", "words"}


def write_metrics(folder, records):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.mark.parametrize(("source", "expected"), [("scenes", SCENES), ("photos", SCENES - {"codes", "words"})])
def test_every_figure_that_the_pairs_allow(tmp_path, monkeypatch, model, tokenizer, records, request, source, expected):
    if source == "photos":
        write_nothing(monkeypatch)  # rendering is the slow part, and scenes have it all
    write_metrics(tmp_path, records())
    paths = draw_all(tmp_path, model, tokenizer, request.getfixturevalue(source), images=8, pattern_images=10)
    home = tmp_path / "figures"
    assert sorted(paths) == sorted(home.iterdir())
    assert {p.stem for p in paths if p.suffix == ".png"} == expected
    numbers = json.loads((home / "figures.json").read_text())
    assert set(numbers) == expected and all(numbers.values())
    assert all(p.stat().st_size < 1_000_000 for p in paths)


def write_nothing(monkeypatch):
    monkeypatch.setattr("semmim_mini.figures.save", lambda figure, path: (path.touch(), path)[1])


def test_without_a_log_there_are_no_curves_and_without_codes_no_patterns(tmp_path, monkeypatch, config, tokenizer, scenes):
    from semmim_mini.config import override
    from semmim_mini.model.semmim import SemMIM

    write_nothing(monkeypatch)
    plain = SemMIM(override(config, ["losses.mim_target=pixels", "losses.consensus.weight=0"]), len(tokenizer))
    paths = draw_all(tmp_path, plain, tokenizer, scenes, tmp_path / "elsewhere", images=8, pattern_images=10)
    assert {p.stem for p in paths} == {"masks", "masks_two_captions", "isolation", "pca", "words", "figures"}
    assert {p.parent for p in paths} == {tmp_path / "elsewhere"}


def test_the_entropy_of_the_captions_words(tokenizer, photos):
    # All photos have the same two captions; [CLS], [SEP] and padding do not count.
    ids = tokenizer(["a man and his dog on a beach a dog runs"], add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    assert caption_entropy(photos, tokenizer, 20) == pytest.approx(unigram_entropy(ids))
