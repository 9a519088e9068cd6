"""`down` takes the lab's directory away, whatever its users keep in it, and nothing that is elsewhere."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from netns.build import Lab
from netns.errors import LabError

pytestmark = pytest.mark.root


@pytest.fixture
def kept(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """A lab of hosts alone, with a student's folders and links in its directory."""
    other = Lab(prefix=f"{lab.prefix}k-")
    other.up(cables=False)
    try:
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "thesis").write_text("mine")
        (other.directory / "notes" / "of today").mkdir(parents=True)
        (other.directory / "notes" / "of today" / "one").write_text("SYN")
        (other.directory / "notes" / "inside").symlink_to(tmp_path / "precious")
        (other.directory / "link").symlink_to(tmp_path / "precious")
        (other.directory / "to nowhere").symlink_to("nowhere")
        os.mkfifo(other.directory / "notes" / "pipe")
        yield other
    finally:
        other.down()


def test_folders_go_and_what_links_point_to_stays(kept: Lab, tmp_path: Path) -> None:
    kept.down()
    assert kept.traces() == []
    assert (tmp_path / "precious" / "thesis").read_text() == "mine"


def test_folders_go_with_a_lab_whose_builder_was_killed_as_well(kept: Lab, tmp_path: Path) -> None:
    (kept.directory / "namespaces").write_text("\n".join([*kept.namespaces, f"{kept.prefix}never-made"]))
    Lab(prefix=kept.prefix).down()
    assert kept.traces() == []
    assert (tmp_path / "precious" / "thesis").read_text() == "mine"


def test_what_cannot_be_removed_is_named_and_the_next_down_goes_on(kept: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("netns.build.shutil", SimpleNamespace(rmtree=busy))
        with pytest.raises(LabError, match=rf"/notes cannot be removed: Device .*; .*{kept.advice('down')}$"):
            kept.down()
    assert kept.is_up
    kept.down()
    assert kept.traces() == []
