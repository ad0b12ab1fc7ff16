"""Names and ids of catalogues, products and images: how they are written, and nothing else."""

import re
import secrets
import time
import uuid

_CATALOG_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PRODUCT_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_ATTRIBUTE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")

CATALOG_ID_RULE = "must be 1..63 of a-z, 0-9 and '-', begin with a letter and not end with '-'"
CATALOG_NAME_RULE = "must be catalogs/{catalog}; the id is 1..63 of a-z, 0-9 and '-' and begins with a letter"
PRODUCT_ID_RULE = "must be 1..128 letters, digits, '-', '_', '.' or '~'"
PRODUCT_NAME_RULE = "must be catalogs/{catalog}/products/{product}"
ATTRIBUTE_KEY_RULE = "must be 1..64 letters, digits, '-' or '_'"

# The namespace of our points' ids: they must never change, or a repeated import would double every picture.
_POINTS = uuid.UUID("6f1c2a52-3df5-5d2c-9a9f-0a4b7d6f2c11")
_CATALOGS = uuid.UUID("d0a0b7c6-55b7-5c4f-8f0e-2f7f4f0a1b33")


def is_catalog_id(text: str) -> bool:
    """Tell whether a text can be a catalogue's id."""
    return _CATALOG_ID.fullmatch(text) is not None


def is_product_id(text: str) -> bool:
    """Tell whether a text can be a product's or an image's id."""
    return _PRODUCT_ID.fullmatch(text) is not None


def is_attribute_key(text: str) -> bool:
    """Tell whether a text can be an attribute's key."""
    return _ATTRIBUTE_KEY.fullmatch(text) is not None


def catalog_name(catalog_id: str) -> str:
    """Return `catalogs/{catalog}`."""
    return f"catalogs/{catalog_id}"


def product_name(catalog_id: str, product_id: str) -> str:
    """Return `catalogs/{catalog}/products/{product}`."""
    return f"catalogs/{catalog_id}/products/{product_id}"


def parse_catalog_name(name: str) -> str | None:
    """Return the id in a catalogue's name, or None if it is none."""
    collection, _, catalog_id = name.partition("/")
    return catalog_id if collection == "catalogs" and is_catalog_id(catalog_id) else None


def parse_product_name(name: str) -> tuple[str, str] | None:
    """Return the ids of the catalogue and the product in a product's name, or None if it is none."""
    match name.split("/"):
        case ["catalogs", catalog_id, "products", product_id]:
            return (catalog_id, product_id) if is_catalog_id(catalog_id) and is_product_id(product_id) else None
    return None


def point_id(product_id: str, image_id: str) -> str:
    """Return the id of an image's point within its catalogue's index: the same for the same image, for ever."""
    return str(uuid.uuid5(_POINTS, f"{product_id}/{image_id}"))  # no id holds a '/'


def catalog_point_id(catalog_id: str) -> str:
    """Return the id of a catalogue's entry in a registry of catalogues."""
    return str(uuid.uuid5(_CATALOGS, catalog_id))


def new_generation() -> str:
    """Return what tells a new store of a catalogue from its others, before and after: the second, and chance."""
    return f"{int(time.time()):08x}{secrets.token_hex(3)}"


def generation_age_s(generation: str) -> float:
    """Return how many seconds ago `new_generation` gave this; 0 for any other text."""
    try:
        return time.time() - int(generation[:8], 16)
    except ValueError:
        return 0.0


def store_name(catalog_id: str, generation: str) -> str:
    """Return the name of what holds a catalogue's images: its id, and its generation once it was replaced."""
    return f"{catalog_id}.{generation}" if generation else catalog_id  # no id holds a '.'


def catalog_of_store(store: str) -> str:
    """Return the id of the catalogue that a store is of."""
    return store.partition(".")[0]
