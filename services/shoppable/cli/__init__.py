"""The command `shoppable`: the suite from a terminal.

Modules that a command needs are imported when it runs, so that `--help` and mistyped flags are answered at once.
"""
