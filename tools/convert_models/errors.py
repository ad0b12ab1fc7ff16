"""The one error of this tool: its text says what is wrong and what to do about it."""


class ConversionError(Exception):
    """A source, a tool or a result is not what the conversion was written for."""
