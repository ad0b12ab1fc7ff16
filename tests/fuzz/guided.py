"""Fuzzing of one parser for as long as you like, guided by which lines of our code a mutation reaches.

    uv pip install atheris      # not installed with the tests
    python tests/fuzz/guided.py feed -max_total_time=3600

What follows the parser's name are libFuzzer's own flags. Inputs that reach something new are kept in
`.build/fuzz/NAME`; one that fails is written to the folder in which this was started, and belongs in
`tests/fuzz/corpus/NAME` with its fix.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["shoppable"]):
    from fuzz.targets import CORPUS, TARGETS


def main() -> None:
    """Fuzz the parser that the first argument names."""
    targets = {target.name: target for target in TARGETS}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        raise SystemExit(f"which of {', '.join(targets)}?")
    name = sys.argv.pop(1)
    kept = Path(".build/fuzz") / name
    kept.mkdir(parents=True, exist_ok=True)
    scratch = Path(".build/fuzz/scratch")  # libFuzzer ends the process, so that nothing could be cleared away
    scratch.mkdir(exist_ok=True)
    atheris.Setup([*sys.argv, str(kept), str(CORPUS / name)], lambda data: targets[name].try_on(data, scratch))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
