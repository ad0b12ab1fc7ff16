"""Tables of callers for tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

KEY, OTHER_KEY = "shop-key-" + "k" * 32, "other-key-" + "o" * 32


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def callers_file(folder: Path, **changes: Any) -> Path:
    entry = {
        "sha256": [digest(KEY)],
        "rpcs": ["shoppable.v1.ProductCatalogService/*"],
        "catalogs": ["summer", "sale-*"],
    } | changes
    path = folder / "callers.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in entry.items()]
    path.write_text("\n".join(["[callers.web-shop]", *lines, ""]))
    return path
