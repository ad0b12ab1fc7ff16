"""The way to Triton: one channel, with TLS if peers speak it, and shared memory where Triton is on this host.

Needs the extra of a service that infers (tritonclient), whose exceptions pass through; see `inference` for a model.
"""

import contextlib
import ipaddress
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import Field, SecretStr, model_validator
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from shoppable.runtime.call import remaining_s
from shoppable.runtime.peers import peer_files
from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.shared_regions import SharedRegions, padded_bytes

_log = structlog.get_logger(__name__)
# Our largest batch is far below; tritonclient's own default is 2 GiB.
_MAX_MESSAGE_BYTES = 64 * 2**20
_KEY_HEADER = "triton-grpc-protocol-"
_KEY = re.compile(r"[a-z0-9._-]+=[!-~]+")
_CHANNEL_ARGUMENTS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # A restarted Triton should be found within a second or two, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
# Several replicas of Triton behind one name take turns. Not on this host: after a restart, turns are slower to try
# again.
_TURNS = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')


class TritonSettings(ServerSettings):
    """Settings of a server that asks Triton."""

    triton_endpoint: str = Field(
        "127.0.0.1:8001", min_length=1, description="Triton's gRPC address: host:port, or unix:/path of a socket"
    )
    triton_shared_memory: Literal["auto", "on", "off"] = Field(
        "auto",
        description="whether tensors go to Triton through shared memory: auto = where its address is of this host,"
        " on = try it anyway; where Triton refuses they go over gRPC",
    )
    triton_shared_memory_mb: int = Field(
        64, ge=1, le=65536, description="most memory in /dev/shm for that, in MiB; what does not fit goes over gRPC"
    )
    triton_key: SecretStr | None = Field(
        None,
        description="name=value of the key, where Triton's --grpc-restricted-protocol asks for one: for shared-memory,"
        " and for model-repository, whose reasons for a model that did not load are then told",
    )

    @model_validator(mode="after")
    def _check_triton(self) -> "TritonSettings":
        if self.triton_key is not None and not _KEY.fullmatch(self.triton_key.get_secret_value()):
            raise ValueError("triton_key must be name=value, the name in small letters")
        return self

    def triton_headers(self) -> dict[str, str]:
        """Return what requests to Triton's restricted interfaces carry."""
        if self.triton_key is None:
            return {}
        name, _, value = self.triton_key.get_secret_value().partition("=")
        return {_KEY_HEADER + name: value}


class TritonClient(InferenceServerClient):  # type: ignore[misc]  # tritonclient has no types
    """tritonclient's client, whose inputs travel the fastest way there is."""

    def __init__(self, settings: TritonSettings) -> None:
        """Open a channel. It connects when it is first used.

        Raises:
            ConfigurationError: The TLS files for peers cannot be used.
        """
        files = peer_files(settings)
        credentials = files.credentials() if files else None
        arguments = [*_CHANNEL_ARGUMENTS, *([] if is_this_host(settings.triton_endpoint) else [_TURNS])]
        super().__init__(settings.triton_endpoint, creds=credentials, channel_args=arguments)
        self._headers = settings.triton_headers()
        mode = settings.triton_shared_memory
        self._regions: SharedRegions | None = None
        if mode == "on" or (mode == "auto" and is_this_host(settings.triton_endpoint)):
            most_bytes = settings.triton_shared_memory_mb * 2**20
            self._regions = SharedRegions(self, most_bytes=most_bytes, headers=self._headers)

    async def infer_arrays(
        self,
        model: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Sequence[str],
        *,
        version: str = "",
        timeout_s: float,
    ) -> InferResult:
        """Run a model within `timeout_s` and the time that the current call has left.

        Args:
            model: Its name.
            inputs: All of its inputs, by name.
            outputs: Names of the outputs that are wanted.
            version: Of the model; empty for the newest.
            timeout_s: For the answer.

        Raises:
            InferenceServerException: Triton cannot be reached, or answered with an error.
            DeadlineExceededError: The call has no time left.
        """
        tensors = [InferInput(name, list(one.shape), np_to_triton_dtype(one.dtype)) for name, one in inputs.items()]
        wanted = [InferRequestedOutput(name) for name in outputs]

        async def ask() -> InferResult:
            return await self.infer(
                model, tensors, model_version=version, outputs=wanted, client_timeout=remaining_s(timeout_s)
            )

        regions, arrays = self._regions, list(inputs.values())
        plain = all(not one.dtype.hasobject for one in arrays)  # else they are lists of texts
        region = regions.take(sum(map(padded_bytes, arrays))) if regions and plain else None
        if regions is not None and region is not None:
            try:
                for tensor, array, offset in zip(tensors, arrays, region.write(arrays), strict=True):
                    tensor.set_shared_memory(region.name, array.nbytes, offset)
                answer = await ask()
            except InferenceServerException as error:
                if region.name not in (error.message() or ""):
                    regions.retire(region)
                    raise
                # Triton names a region that it does not know; it has not begun, so nothing is asked twice.
                regions.lost(region)
            except BaseException:
                regions.retire(region)
                raise
            else:
                regions.give_back(region)
                return answer
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
        return await ask()

    async def not_loaded_because(self, model: str, *, timeout_s: float) -> str | None:
        """Return why a model is not loaded, as Triton tells it; None if it has no such model or does not tell.

        The text is "unloaded" where somebody wanted it so.
        """
        try:
            index = await self.get_model_repository_index(headers=self._headers, client_timeout=timeout_s)
        except InferenceServerException:  # restricted, or a server that only speaks the inference protocol
            return None
        reasons = [entry.reason for entry in index.models if entry.name == model and entry.state != "READY"]
        return next(filter(None, reasons), "unloaded" if reasons else None)

    async def close(self) -> None:
        """Give the shared memory up and close the channel."""
        if self._regions is not None:
            await self._regions.close()
        await super().close()


@contextlib.asynccontextmanager
async def connect(settings: TritonSettings) -> AsyncIterator[TritonClient]:
    """Open the way to Triton while inside.

    Raises:
        ConfigurationError: The TLS files for peers cannot be used.
    """
    client = TritonClient(settings)
    try:
        yield client
    finally:
        await client.close()


def is_this_host(endpoint: str) -> bool:
    """Whether an address is certainly of this host: a socket in the file system, or a loopback address."""
    if endpoint.startswith(("unix:", "unix-abstract:")):
        return True
    host = endpoint.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
