"""Goes through the services of an installation, each as far as it lets us."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shoppable.cli.doctor import probing
from shoppable.cli.doctor.connection import Access, look_at
from shoppable.cli.doctor.findings import Finding, Severity
from shoppable.cli.doctor.server import Target, Told, examine
from shoppable.client.channels import TlsFiles, open_channel

_SERVICES = {
    "orchestrator": "shoppable.v1.OrchestratorService",
    "decoder": "shoppable.v1.FrameDecoderService",
    "detector": "shoppable.v1.ObjectDetectorService",
    "matcher": "shoppable.v1.ProductMatcherService",
}
_PROBES = {
    "orchestrator": probing.probe_orchestrator,
    "detector": probing.probe_detector,
    "matcher": probing.probe_matcher,
}


async def examine_all(addresses: Mapping[str, str], access: Access) -> list[Finding]:
    """Examine the services at these addresses, side by side; their findings come in order."""
    results = await asyncio.gather(*(_examine_one(name, address, access) for name, address in addresses.items()))
    findings = [finding for found, _ in results for finding in found]
    told = {name: one for name, (_, one) in zip(addresses, results, strict=True) if one}
    return findings + probing.compare(told)


async def _examine_one(name: str, address: str, access: Access) -> tuple[list[Finding], Told | None]:
    findings = [await asyncio.to_thread(look_at, name, address, access)]
    if findings[0].severity is Severity.ERROR:
        return findings, None
    tls = TlsFiles(access.roots, access.certificate, access.key) if access.tls else None
    async with open_channel(address, tls=tls) as channel:
        target = Target(
            name,
            address,
            _SERVICES[name],
            channel,
            metadata=(("authorization", f"Bearer {access.api_key}"),) if access.api_key else (),
            shows_certificate=access.certificate is not None,
        )
        told = await examine(target, findings)
        # Who does not know us will not do anything for us either.
        if told.info is not None and name in _PROBES:
            await _PROBES[name](target, findings)
    return findings, told
