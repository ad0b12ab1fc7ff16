"""What can be wrong with the files that an operator gives to the detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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
        return f"{self.path}: {self.field}: {self.problem}" if self.field else f"{self.path}: {self.problem}"


class ConfigurationError(RuntimeError):
    """Files of the detector's configuration cannot be used: the server does not start.

    The text names file and field of each mistake, or the line and column where a file is no TOML.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)
