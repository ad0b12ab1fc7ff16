"""What can be wrong with the files that an operator gives to the detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shoppable.runtime import toml


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a file.

    Attributes:
        path: The file.
        field: The field's path in it; empty if the file as a whole is wrong.
        problem: What is wrong, in words.
    """

    path: Path
    field: str
    problem: str

    def __str__(self) -> str:
        if not self.field:
            return f"{self.path}: {self.problem}"
        return f"{self.path}: {toml.with_line(_text(self.path), self.field)}: {self.problem}"


class ConfigurationError(RuntimeError):
    """Files of the detector's configuration cannot be used: the server does not start.

    The text names file, line and field of each mistake, or the line and column where a file is no TOML.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # it was read before, and is not what it was
        return ""
