"""What can be wrong with the files that an operator gives to the detector."""

from pathlib import Path


class ConfigurationError(RuntimeError):
    """A file of the detector's configuration cannot be used: the server does not start.

    The text names the file and the field, or the line and column where the file is no TOML.
    """

    def __init__(self, path: Path, field: str, problem: str) -> None:
        super().__init__(f"{path}: {field}: {problem}" if field else f"{path}: {problem}")
        self.path = path
        self.field = field
        self.problem = problem
