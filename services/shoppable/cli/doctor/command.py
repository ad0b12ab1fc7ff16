"""`shoppable doctor`: says in plain words what is wrong with an installation, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoppable.cli.options import DataOption, JsonOption

if TYPE_CHECKING:
    from shoppable.cli.doctor.findings import Finding

_TLS = "TLS and credentials"
_SERVICES = "Services"
_Address = Annotated[str | None, typer.Option(metavar="HOST:PORT", rich_help_panel=_SERVICES)]
# As the services' own defaults have them.
_DEFAULTS = {
    "orchestrator": "127.0.0.1:50050",
    "decoder": "127.0.0.1:50051",
    "detector": "127.0.0.1:50052",
    "matcher": "127.0.0.1:50053",
}


def doctor(
    orchestrator: _Address = None,
    decoder: _Address = None,
    detector: _Address = None,
    matcher: _Address = None,
    tls: Annotated[bool, typer.Option("--tls", help="The services speak TLS.", rich_help_panel=_TLS)] = False,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", exists=True, dir_okay=False, help="PEM roots to trust.", rich_help_panel=_TLS),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option("--cert", exists=True, dir_okay=False, help="PEM chain to show.", rich_help_panel=_TLS),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", exists=True, dir_okay=False, help="PEM key of that chain.", rich_help_panel=_TLS),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            exists=True,
            dir_okay=False,
            envvar="SHOPPABLE_API_KEY_FILE",
            help="File with the API key or token to show.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine an installation from outside, and say what is wrong and what to do.

    It looks at the services that are named; at those that run here, if none is; else at the default ports. Their way,
    TLS, credentials, health, versions, clocks, limits, models, catalogues, and whether they reach Triton, the index
    and each other. It changes nothing. Exits with 1 if something keeps the installation from working.

    Examples:
        shoppable doctor

        shoppable doctor --orchestrator video.example.com:443 --tls --api-key-file key.txt --json
    """
    from shoppable.cli import running
    from shoppable.cli.doctor.connection import Access
    from shoppable.cli.doctor.examination import examine_all
    from shoppable.cli.doctor.findings import Severity

    named = {"orchestrator": orchestrator, "decoder": decoder, "detector": detector, "matcher": matcher}
    addresses = {name: address for name, address in named.items() if address} or _found_here(data)
    access = Access(
        tls=tls or bool(ca or cert),
        roots=ca,
        certificate=cert,
        key=key,
        api_key=api_key_file.read_text().strip() if api_key_file else "",
    )
    findings = running.run(examine_all(addresses, access))
    _show(findings, as_json=as_json)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(1)


def _found_here(data: Path | None) -> dict[str, str]:
    from shoppable.local import locations
    from shoppable.local.data_folder import discover

    found = discover(data or locations.data_home())
    running = {name: getattr(found, name) for name in _DEFAULTS} if found else {}
    return {name: address for name, address in running.items() if address} or dict(_DEFAULTS)


def _show(findings: list[Finding], *, as_json: bool) -> None:
    from rich.text import Text

    from shoppable.cli.console import make_console, plain
    from shoppable.cli.doctor.findings import Severity

    counts = {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}
    if as_json:
        records = [
            {
                "severity": finding.severity.value,
                "subject": finding.subject,
                "code": finding.code,
                "text": finding.text,
                "remedy": finding.remedy,
            }
            for finding in findings
        ]
        typer.echo(json.dumps({"errors": counts[Severity.ERROR], "findings": records}, indent=2))
        return
    console = make_console()
    marks = {Severity.OK: ("✓", "green"), Severity.WARNING: ("!", "yellow"), Severity.ERROR: ("✗", "bold red")}
    for finding in findings:
        mark, style = marks[finding.severity]
        console.print(Text.assemble((mark, style), f" {finding.subject:<13} {plain(finding.text)}"), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"  {'':<13} → {plain(finding.remedy)}", style="dim"), soft_wrap=True)
    wrong, doubtful = counts[Severity.ERROR], counts[Severity.WARNING]
    console.print()
    if wrong:
        console.print(f"{wrong} {'thing keeps' if wrong == 1 else 'things keep'} the installation from working.")
    else:
        console.print("All that was looked at works." if not doubtful else f"It works; {doubtful} to look at.")
