"""Turns a video into the list of things one can buy in it."""

__version__ = "0.1.0"
