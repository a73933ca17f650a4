r"""Plain values from text that a stranger wrote, and such values in messages.

text ─► read_yaml ─► numbers, texts, lists, mappings: never anything that runs ─► shown ─► a few words for people
"""

import reprlib
from typing import Any

LARGEST = 2**63 - 1  # of a whole number: what tensors count with


class _Short(reprlib.Repr):
    """`repr`, cut. Twenty-five YAML aliases can stand for a value of a hundred million parts, which no message may spell out."""

    def __init__(self):
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write very long numbers out at all."""
        return repr(value) if abs(value) <= LARGEST else f"a number of {value.bit_length()} bits"


def shown(value: Any) -> str:
    """A value as a message has it: short, on one line, printable."""
    text = _Short().repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def named(text: Any) -> str:
    """A name as a message has it: as it is, unless it is too long or cannot be printed."""
    return text if isinstance(text, str) and text.isprintable() and len(text) <= 80 else shown(text)


def read_yaml(text: str) -> Any:
    """The value that a YAML text stands for.

    Raises:
        ValueError: it is no YAML, or has tags or numbers that stand for no plain value.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    # Beside its own errors, PyYAML lets through what int(), float() and dates say about texts tagged as such, and deep nesting.
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ValueError(f"{error!s:.500}" if str(error) else type(error).__name__) from None


def first_line(error: BaseException) -> str:
    """What another library says went wrong, cut to a line for people; its kind, where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
