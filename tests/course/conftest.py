"""The answers of a test module, for the tests that all modules of checkers share (`checker_tests.py`)."""

import pytest

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
