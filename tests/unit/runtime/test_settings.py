from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from shoppable.runtime.settings import Paths, ServerSettings, SettingsError, load


class ToasterSettings(ServerSettings):
    """Settings of the toaster."""

    service: ClassVar[str] = "toaster"
    roots: Paths = Field((), description="folders of bread")


def loaded(*flags: str) -> ToasterSettings:
    return load(ToasterSettings, flags, prog="toaster")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPPABLE_CONFIG", "")


def test_the_strongest_source_wins(monkeypatch, tmp_path: Path):
    file = tmp_path / "shoppable.toml"
    assert loaded().port == 0
    file.write_text("port = 1001\n[decoder]\nport = 9\n")
    monkeypatch.setenv("SHOPPABLE_CONFIG", str(file))
    assert loaded().port == 1001
    file.write_text("port = 1001\n[toaster]\nport = 1002\n")
    assert loaded().port == 1002
    monkeypatch.setenv("SHOPPABLE_PORT", "1003")
    assert loaded().port == 1003
    monkeypatch.setenv("SHOPPABLE_TOASTER_PORT", "1004")
    assert loaded().port == 1004
    assert loaded("--port", "1005").port == 1005


def test_lists_are_written_with_commas_or_as_toml(monkeypatch, tmp_path: Path):
    wanted = (Path("/a"), Path("/b"))
    assert loaded("--roots", "/a,/b").roots == wanted
    monkeypatch.setenv("SHOPPABLE_TOASTER_ROOTS", "/a, /b")
    assert loaded().roots == wanted
    monkeypatch.delenv("SHOPPABLE_TOASTER_ROOTS")
    file = tmp_path / "shoppable.toml"
    file.write_text('[toaster]\nroots = ["/a", "/b"]\n')
    assert loaded("--config", str(file)).roots == wanted


@pytest.mark.parametrize(
    ("flags", "named"),
    [(("--port", "70000"), "port"), (("--log-level", "loud"), "log_level"), (("--port", "x"), "port")],
)
def test_a_wrong_value_is_refused_by_its_name(flags, named):
    with pytest.raises(SettingsError, match=named):
        loaded(*flags)


@pytest.mark.parametrize("content", ["port = ", "toaster = 3", "\x00"])
def test_a_broken_file_is_refused_by_its_path(tmp_path: Path, content):
    file = tmp_path / "shoppable.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"shoppable\.toml"):
        loaded("--config", str(file))


def test_an_unknown_flag_ends_with_usage_status(capsys):
    with pytest.raises(SystemExit) as stop:
        loaded("--bagel", "1")
    assert stop.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_help_tells_each_setting_with_its_default_and_variable(capsys):
    with pytest.raises(SystemExit) as stop:
        loaded("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--roots" in text
    assert "folders of bread" in text
    assert "SHOPPABLE_TOASTER_" in text


def test_a_wrong_value_is_told_with_where_it_comes_from(monkeypatch, tmp_path: Path):
    file = tmp_path / "shoppable.toml"
    file.write_text("# for all\nlog_level = 'loud'\n\n[toaster]\nport = 70000\n")
    with pytest.raises(SettingsError) as caught:
        loaded("--config", str(file), "--metrics-port", "x")
    told = str(caught.value)
    assert f"{file}, line 2" in told.partition("log_level: ")[2].partition(";")[0]
    assert f"{file}, line 5" in told.partition("port: ")[2].partition(";")[0]
    assert "the flag --metrics-port" in told.partition("metrics_port: ")[2]
    monkeypatch.setenv("SHOPPABLE_PORT", "x")
    with pytest.raises(SettingsError, match="the variable SHOPPABLE_PORT"):
        loaded()


def test_a_misspelt_setting_in_the_services_own_table_is_refused_with_its_line(tmp_path: Path):
    file = tmp_path / "shoppable.toml"
    file.write_text("bagels = 3  # may be another service's\n[toaster]\nport = 1\n'rots' = ['/a']\n")
    with pytest.raises(SettingsError, match=r"shoppable\.toml, \[toaster\]: no such setting: line 4: rots"):
        loaded("--config", str(file))
