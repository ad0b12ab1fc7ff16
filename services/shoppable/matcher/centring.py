"""How vectors are compared: square roots of the embedding, and what all pictures share taken out of both sides.

Embeddings of a convolutional network are mostly not negative, and a few large numbers rule their cosine; square roots
even them out (Arandjelović and Zisserman, CVPR 2012: compared so, it is Hellinger's kernel). And all pictures have much
in common, photos of a store other things than pictures of a studio: with each side's own mean m subtracted, the cosine
of q - m_q and r - m_r compares what sets pictures apart (Jégou and Chum, ECCV 2012). Colours are centred alike.

References are stored rooted and not centred, so that means can change without a picture being embedded again. An index
that only knows cosines of stored vectors still answers exactly: with c = q - m_q, and r of length 1,

    cos(c, r - m_r) = (cos(c, r) - c·m_r / |c|) / sqrt(1 - 2 |m_r| cos(m_r, r) + |m_r|²)

takes two searches, one along c and one along m_r. Roots lose nothing: they can be squared again.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoppable.matcher.ports import Floats, Space

# Below this length a difference has no direction worth following.
_LEAST_LENGTH = 1e-3


def rooted(embedding: Floats) -> Floats:
    """Return an embedding as it is stored: signed square roots, of length 1."""
    roots = np.sign(embedding) * np.sqrt(np.abs(embedding))
    stored: Floats = (roots / max(float(np.linalg.norm(roots)), 1e-12)).astype(np.float32)
    return stored


def squared(stored: Floats) -> Floats:
    """Return the embedding, of length 1, of which `rooted` made what is stored."""
    squares = np.sign(stored) * np.square(stored)
    embedding: Floats = (squares / max(float(np.linalg.norm(squares)), 1e-12)).astype(np.float32)
    return embedding


@dataclass(frozen=True, eq=False)
class Means:
    """The mean of many pictures' stored vectors, in both spaces."""

    embedding: Floats
    colour: Floats

    def of(self, space: Space) -> Floats:
        """Return one space's mean."""
        return self.embedding if space is Space.EMBEDDING else self.colour

    def towards(self, other: "Means", share: float) -> "Means":
        """Return the means that lie at a share, 0..1, of the way to others."""
        return Means(
            (self.embedding + share * (other.embedding - self.embedding)).astype(np.float32),
            (self.colour + share * (other.colour - self.colour)).astype(np.float32),
        )

    def to_json(self) -> dict[str, str]:
        """Return them as texts: half precision is far finer than a mean is known."""
        return {space.value: base64.b64encode(self.of(space).astype("<f2").tobytes()).decode() for space in Space}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Means":
        """Read what `to_json` wrote; ValueError, KeyError or TypeError if it did not."""
        read = [np.frombuffer(base64.b64decode(values[space.value]), "<f2").astype(np.float32) for space in Space]
        if not all(np.isfinite(one).all() and np.linalg.norm(one) < 1 for one in read):
            raise ValueError("these are no means of vectors of length 1")
        return cls(*read)


@dataclass(frozen=True, eq=False)
class Aim:
    """A view's vector as it is searched: `direction` is c, `shift` is c·m_r / |c|."""

    direction: Floats
    shift: float


@dataclass(frozen=True, eq=False)
class Centring:
    """The means that are subtracted: from references, and from the pictures that are asked about."""

    references: Means
    queries: Means

    def aim(self, space: Space, vector: Floats) -> Aim:
        """Return what to search for a view's stored vector."""
        difference = vector - self.queries.of(space)
        length = float(np.linalg.norm(difference))
        if length < _LEAST_LENGTH:  # the most ordinary of pictures: it is like anything
            difference, length = vector, float(np.linalg.norm(vector))
        direction = (difference / np.float32(length)).astype(np.float32)
        return Aim(direction, float(direction @ self.references.of(space)))

    def likeness(self, space: Space, aim: Aim, along: float, along_mean: float) -> float:
        """Return the centred cosine from a reference's cosines with the aim and with the references' mean."""
        mean = float(np.linalg.norm(self.references.of(space)))
        squared = 1 - 2 * mean * along_mean + mean * mean
        value = (along - aim.shift) / math.sqrt(max(squared, _LEAST_LENGTH**2))
        return min(1.0, max(-1.0, value))
