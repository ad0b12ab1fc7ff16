"""Reads an operator's TOML file so that every mistake in it is answered with its place."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from shoppable.detector.errors import ConfigurationError

T = TypeVar("T")
_SHOWN_MISTAKES = 10


def read_toml(path: Path, form: TypeAdapter[T]) -> T:
    """Read a file and check it against a form.

    Raises:
        ConfigurationError: The file cannot be read, is no TOML (the text has line and column), or does not have the
            form (the text has the first fields that are wrong).
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(path, "", f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(path, "", f"is not UTF-8 text: byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(path, "", f"is not TOML: {error}") from error
    try:
        return form.validate_python(content)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)[:_SHOWN_MISTAKES]
        fields = [".".join(map(str, item["loc"])) for item in mistakes]
        problems = [item["msg"].removeprefix("Value error, ") for item in mistakes]
        others = "".join(f"; {field}: {problem}" for field, problem in zip(fields[1:], problems[1:], strict=True))
        raise ConfigurationError(path, fields[0], problems[0] + others) from error
