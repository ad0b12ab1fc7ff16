"""Where local mode finds what came with the suite, and where it keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

# In a checkout, and in an editable install of it, these lie beside `services/`.
_ROOT = Path(__file__).resolve().parents[3]
MODEL_REPOSITORY = _ROOT / "deploy" / "triton" / "models"
SAMPLES = _ROOT / "samples"


def data_home() -> Path:
    """The default folder of catalogues that outlive a run."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def state_home() -> Path:
    """The default folder of logs."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def _xdg(variable: str, default: str) -> Path:
    named = os.environ.get(variable, "")
    # The specification says that a relative path is to be ignored.
    base = Path(named) if Path(named).is_absolute() else Path.home() / default
    return base / "shoppable"
