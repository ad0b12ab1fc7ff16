"""Every parser of ours, on mutations of a corpus: it reads them or refuses them, and nothing else comes out.

`FUZZ_EXAMPLES` for each parser: 200 in the tests of a commit, always the same ones; more of them are new ones each time
(`make fuzz`). What fails is added to `corpus/`.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, Target

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
_IN_CI = 200
# What breaks parsers: nesting, quoting, numbers at an edge, bytes that are no text.
_TOKENS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"'", b'"""', b"\\u0000", b"\\ud800", b"\n", b"\r",
    b",", b"\t", b"[", b"]" * 50, b"[" * 2000, b"{" * 2000, b"<" * 50, b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;",
    b"=", b"#", b"1e999", b"-1", b"nan", b"99999999999999999999", b"1979-05-27T07:32:00Z", b"true", b"null",
    b"\x1f\x8b", b"PAR1", "\N{SNOWMAN}\N{RIGHT-TO-LEFT OVERRIDE}".encode(), b"a" * 10_000,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a few things done to it, or bytes from nowhere."""
    data = draw(st.one_of(st.sampled_from(seeds), st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        piece = draw(
            st.one_of(
                st.just(b""),  # cut
                st.just(data[start:end] * 2),  # repeat
                st.binary(min_size=end - start, max_size=end - start + 2),  # overwrite
                st.sampled_from(_TOKENS),
                st.sampled_from(seeds).flatmap(lambda seed: st.integers(0, len(seed)).map(lambda at: seed[at:])),
            )
        )
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_takes_any_bytes_or_refuses_them(target: Target, tmp_path: Path):
    seeds = list(target.seeds)
    for seed in seeds:
        target.try_on(seed, tmp_path)

    @settings(
        max_examples=EXAMPLES or _IN_CI,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(seeds))
    def check(data: bytes) -> None:
        target.try_on(data, tmp_path)

    check()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_of_a_parser_holds_what_it_takes(target: Target, tmp_path: Path):
    """Or mutations would test nothing but its first check."""
    taken = 0
    for number, seed in enumerate(target.seeds):
        path = tmp_path / str(number)
        path.write_bytes(seed)
        try:
            target.parse(seed, path)
        except target.refusals:
            continue
        taken += 1
    assert taken
