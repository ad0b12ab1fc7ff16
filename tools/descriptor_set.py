"""Writes the descriptor set of our services, imports included, for gateways: `python tools/descriptor_set.py FILE`.

The generated modules carry their descriptors, options and all, so no compiler is needed.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from shoppable.v1 import orchestrator_pb2, product_catalog_pb2, product_matcher_pb2, server_info_pb2

# What the gateway is to serve; decoder and detector are the orchestrator's business.
PUBLIC = tuple(
    module.DESCRIPTOR for module in (orchestrator_pb2, product_catalog_pb2, product_matcher_pb2, server_info_pb2)
)


def descriptor_set(wanted: Iterable[FileDescriptor] = PUBLIC) -> FileDescriptorSet:
    """Return files, by default those of the public services, each behind those that it imports."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for imported in file.dependencies:
                add(imported)
            found[file.name] = file

    for file in wanted:
        add(file)
    files = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(files.file.add())
    return files


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    target: Path = parser.parse_args().file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(descriptor_set().SerializeToString())


if __name__ == "__main__":
    main()
