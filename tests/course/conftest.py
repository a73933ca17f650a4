"""The answers of a test module, for the tests that all modules of checkers share (`checker_tests.py`); eight small scenes for pictures."""

import pytest

from semmim_mini.data.scenes import SceneDataset
from semmim_mini.data.text import train_wordpiece
from semmim_mini.instruments.held_out import held_out_batches

pytest.register_assert_rewrite("checker_tests")


def pytest_generate_tests(metafunc):
    module = metafunc.module
    answers = {
        "right_answer": lambda: module.RIGHT,
        "wrong_answer": lambda: module.WRONG,
        "known_mistake": lambda: [(check, mistake) for check, mistakes in module.LISTS for mistake in mistakes],
        "checker": lambda: [check for check, _ in module.LISTS],
    }
    for name, values in answers.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values())


@pytest.fixture(scope="module")
def scenes():
    return SceneDataset("test", size=8, resolution=32)


@pytest.fixture(scope="module")
def tokenizer(scenes):
    return train_wordpiece([caption for i in range(8) for caption in scenes.captions(i)], 400)


@pytest.fixture(scope="module")
def batch(scenes, tokenizer):
    return next(held_out_batches(scenes, tokenizer, resolution=32, max_length=20, count=8, batch=8))
