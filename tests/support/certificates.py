"""Certificate files for tests, made by an authority of their own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.roots = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.roots))

    def issue(self, *names: str, file: str = "server", expired: bool = False, until: datetime | None = None) -> Pair:
        """Write `file`.pem and `file`.key for these names, over what is there."""
        until = LONG_AGO + timedelta(days=1) if expired else until
        issued = self._ca.issue_cert(*names, not_before=LONG_AGO, not_after=until)
        pair = Pair(self._folder / f"{self._name}-{file}.pem", self._folder / f"{self._name}-{file}.key")
        pair.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        pair.key.write_bytes(issued.private_key_pem.bytes())
        return pair
