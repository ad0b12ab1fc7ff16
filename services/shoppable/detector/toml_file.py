"""Reads an operator's TOML file so that every mistake in it is answered with its place."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from shoppable.detector.errors import ConfigurationError, Mistake
from shoppable.runtime import toml

T = TypeVar("T")


def read_toml(path: Path, form: TypeAdapter[T], *, defaults: Mapping[str, Any] = MappingProxyType({})) -> T:
    """Read a file and check it against a form; `defaults` stand for the keys that it lacks.

    Raises:
        ConfigurationError: The file cannot be read, is no TOML (the text has line and column), or does not have the
            form (each field that is wrong is told).
    """
    try:
        content: dict[str, Any] = {**defaults, **toml.parse(path.read_text(encoding="utf-8"))}
    except OSError as error:
        raise ConfigurationError([Mistake(path, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError([Mistake(path, "", f"is not UTF-8 text: byte {error.start}")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([Mistake(path, "", f"is not TOML: {error}")]) from error
    try:
        return form.validate_python(content)
    except ValidationError as error:
        raise ConfigurationError(
            [
                Mistake(path, ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
                for item in error.errors(include_url=False, include_input=False)
            ]
        ) from error
