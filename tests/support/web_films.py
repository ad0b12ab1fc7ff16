"""A decoder beside a server of films that it may ask, and what is asked for."""

import contextlib
from collections.abc import AsyncIterator

import numpy as np

from shoppable.v1 import common_pb2
from support.decoder_calls import Decoded, Decoder, pixels_of, running_decoder
from support.film_server import Certificate, FilmServer, film_server
from support.videos import Clip, draw, encode, number_of


def noisy(number: int, width: int, height: int):
    """Draw a frame that does not become small by encoding."""
    picture = draw(number, width, height)
    picture[height // 2 :] = np.random.default_rng(number).integers(0, 255, picture[height // 2 :].shape)
    return picture


def make_long_film() -> bytes:
    """Return an MP4 of 15 s, with its index first, that is fetched in several pieces."""
    film = encode(Clip(frames=150, size=(320, 240), gop=10, draw=noisy, options={"preset": "ultrafast"}))
    assert len(film) > 6 * 2**20
    return film


@contextlib.asynccontextmanager
async def both(certificate: Certificate, **settings: object) -> AsyncIterator[tuple[FilmServer, Decoder]]:
    """Run a server of films and a decoder that may ask it."""
    async with film_server(certificate) as server:
        options = {
            "https_hosts": ("localhost", "127.0.0.1"),
            "https_ports": (server.port,),
            "https_networks": ("127.0.0.0/8", "::1/128"),
            "https_ca_file": certificate.certificate_file,
            "max_streams": 1,
        }
        async with running_decoder(**(options | settings)) as decoder:
            yield server, decoder


def uri(text: str) -> common_pb2.VideoSource:
    return common_pb2.VideoSource(uri=text)


def numbers(decoded: Decoded) -> list[int]:
    return [number_of(pixels_of(frame)) for frame in decoded.frames]
