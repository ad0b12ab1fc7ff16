"""Tools that know nothing but an address learn what a server serves, in both versions of reflection."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc
from support.scripted import scripted

SERVICE = "shoppable.v1.FrameDecoderService"
VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class Answering(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    async def ProbeVideo(self, request, context):
        return frame_decoder_pb2.ProbeVideoResponse(video=common_pb2.VideoInfo(codec=request.source.uri))


async def ask(address: str, version: str, **question) -> reflection_pb2.ServerReflectionResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(
            f"/{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([reflection_pb2.ServerReflectionRequest(**question)]))
        return await call.read()


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_versions_list_the_services_and_describe_them(version):
    async with scripted("FrameDecoderService", Answering()) as (_, address):
        listed = await ask(address, version, list_services="")
        names = {service.name for service in listed.list_services_response.service}
        assert {SERVICE, "shoppable.v1.ServerInfoService", *(f"{name}.ServerReflection" for name in VERSIONS)} <= names
        for name in names:
            described = await ask(address, version, file_containing_symbol=name)
            files = [
                descriptor_pb2.FileDescriptorProto.FromString(file)
                for file in described.file_descriptor_response.file_descriptor_proto
            ]
            assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}
        missing = await ask(address, version, file_containing_symbol="shoppable.v1.NoSuchService")
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def grpcurl() -> str:
    """Where grpcurl is; skips the test if it is not installed."""
    places = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go" / "bin")))
    found = shutil.which("grpcurl", path=places)
    if found is None:
        pytest.skip("needs grpcurl: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest")
    return found


async def run(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_grpcurl_lists_describes_and_calls_without_any_file():
    tool = grpcurl()
    async with scripted("FrameDecoderService", Answering()) as (_, address):
        assert SERVICE in (await run(tool, "-plaintext", address, "list")).splitlines()
        described = await run(tool, "-plaintext", address, "describe", f"{SERVICE}.ProbeVideo")
        assert 'post: "/v1/videos:probe"' in described.replace("'", '"')
        assert "ServerReflection" in await run(tool, "-plaintext", address, "describe")
        request = json.dumps({"source": {"uri": "told"}})
        answer = json.loads(await run(tool, "-plaintext", "-d", request, address, f"{SERVICE}/ProbeVideo"))
        assert answer == {"video": {"codec": "told"}}
