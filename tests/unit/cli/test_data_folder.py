import subprocess
import sys
from pathlib import Path

import pytest

from shoppable.local.data_folder import DataFolder, DataFolderError, Endpoints, discover


def test_folder_has_one_owner_that_others_find(tmp_path: Path) -> None:
    owner = DataFolder(tmp_path / "data")
    with pytest.raises(DataFolderError, match="just starting"):
        discover(tmp_path / "data")
    owner.publish(Endpoints(matcher="127.0.0.1:5", pid=7))
    assert discover(tmp_path / "data") == Endpoints(matcher="127.0.0.1:5", pid=7)
    with pytest.raises(DataFolderError, match="--data"):
        DataFolder(tmp_path / "data")
    owner.release()
    assert discover(tmp_path / "data") is None
    DataFolder(tmp_path / "data").release()


def test_folder_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom shoppable.local.data_folder import DataFolder, Endpoints\n"
        "DataFolder(Path(sys.argv[1])).publish(Endpoints(pid=os.getpid()))\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert (tmp_path / "suite.json").exists()
    assert discover(tmp_path) is None
    DataFolder(tmp_path).release()


def test_folder_that_nobody_made_is_owned_by_nobody(tmp_path: Path) -> None:
    assert discover(tmp_path / "none") is None


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="cannot be used"):
        DataFolder(tmp_path / "file" / "data")
