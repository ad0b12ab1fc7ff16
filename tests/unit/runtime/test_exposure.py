"""A server beyond loopback has TLS and knows its callers, or does not start."""

import subprocess
import sys
from pathlib import Path

import pytest

from shoppable.runtime.exposure import check_exposure, check_peer, is_loopback
from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.watched_files import ConfigurationError

FILE = Path("file.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]", "unix:/tmp/socket"])
def test_on_this_machine_nothing_is_asked(host: str):
    assert is_loopback(host)
    check_exposure(ServerSettings(host=host), callers_are_known=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "decoder.example", "localhost.example"])
def test_beyond_it_both_are_asked_for_and_said_how_to_set(host: str):
    settings = ServerSettings(host=host)
    with pytest.raises(ConfigurationError, match=r"tls_certificate_file.*auth_callers_file.*allow_insecure"):
        check_exposure(settings, callers_are_known=False)
    with pytest.raises(ConfigurationError, match="tls_certificate_file"):
        check_exposure(settings, callers_are_known=True)
    secured = ServerSettings(host=host, tls_certificate_file=FILE, tls_key_file=FILE)
    with pytest.raises(ConfigurationError, match="auth_callers_file"):
        check_exposure(secured, callers_are_known=False)
    check_exposure(secured, callers_are_known=True)
    check_exposure(ServerSettings(host=host, allow_insecure=True), callers_are_known=False)


@pytest.mark.parametrize("endpoint", ["matcher:50053", "dns:///matcher:50053", "10.0.0.7:1"])
def test_a_key_is_not_sent_over_a_network_in_the_clear(endpoint: str):
    with pytest.raises(ConfigurationError, match="peer_tls"):
        check_peer(ServerSettings(peer_api_key_file=FILE), endpoint)
    check_peer(ServerSettings(peer_api_key_file=FILE, peer_tls=True), endpoint)
    check_peer(ServerSettings(), endpoint)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:50053", "dns:///localhost:50053", "unix:/run/matcher.sock"])
def test_a_key_may_go_in_the_clear_on_this_machine(endpoint: str):
    check_peer(ServerSettings(peer_api_key_file=FILE), endpoint)


@pytest.mark.parametrize("service", ["decoder", "detector", "matcher", "orchestrator"])
def test_no_service_starts_open_to_a_network(service: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", f"shoppable.{service}", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "auth_callers_file" in done.stderr
    assert "Traceback" not in done.stderr
