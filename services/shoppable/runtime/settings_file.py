"""The TOML file of settings, named by SHOPPABLE_CONFIG: a table for each service, and above them what is for all."""

import os
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppable.runtime import toml

PREFIX = "SHOPPABLE_"


class SettingsError(Exception):
    """The settings cannot be used; the text names each one that is wrong."""


@dataclass(frozen=True)
class SettingsFile:
    """The file; empty if none is named."""

    path: str
    text: str = ""

    @classmethod
    def named(cls) -> "SettingsFile":
        """Read the file that the environment names.

        Raises:
            SettingsError: It cannot be read.
        """
        path = os.environ.get(f"{PREFIX}CONFIG", "")
        try:
            return cls(path, Path(path).read_text() if path else "")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {path} cannot be read: {error}") from error

    def values(self, service: str, known: Collection[str]) -> dict[str, Any]:
        """Return the values for a service; its own table wins over the top level, which other services read too.

        Raises:
            SettingsError: It is no TOML, or the service's table has what is none of the `known` settings.
        """
        try:
            content = toml.parse(self.text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"the settings file {self.path} cannot be read: {error}") from error
        own = content.get(service, {})
        if not isinstance(own, dict):
            raise SettingsError(f"in the settings file {self.path}, [{service}] must be a table")
        if unknown := sorted(own.keys() - set(known)):
            named = ", ".join(f"line {toml.line_of(self.text, f'{service}.{name}')}: {name}" for name in unknown)
            raise SettingsError(f"{self.path}, [{service}]: no such setting: {named}")
        return {key: value for key, value in content.items() if not isinstance(value, dict)} | own

    def line_of(self, service: str, name: str) -> int | None:
        """Return the line that sets a value of a service, or None if none does."""
        own = toml.line_of(self.text, f"{service}.{name}", exactly=True)
        return own or toml.line_of(self.text, name, exactly=True)
