"""Files and directories are read as HAProxy does, and what cannot be read is said."""

from pathlib import Path

import pytest

from natlb.config.parser import Parsed, load


def said(parsed: Parsed) -> list[str]:
    return [diagnostic.render(1) for diagnostic in parsed.diagnostics]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.cfg"
    path.write_text("global\n    maxconn 940\n")
    parsed = load([str(path)], {})
    assert parsed.config is not None
    assert parsed.config.maxconn == 940


def test_the_environment_is_the_processs_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.cfg"
    path.write_text('global\n    node "$NATLB_TEST_NODE"\n')
    monkeypatch.setenv("NATLB_TEST_NODE", "here")
    parsed = load([str(path)])
    assert parsed.config is not None
    assert parsed.config.node == "here"


def test_a_directory_is_its_cfg_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "20-b.cfg").write_text("backend b\n    server s 192.0.2.1:80\n")
    (tmp_path / "10-f.cfg").write_text("frontend f\n    bind :80\n    default_backend b\n")
    for passed_over in ("30.txt", ".40.cfg", "50.cfg~"):
        (tmp_path / passed_over).write_text("no configuration\n")
    (tmp_path / "60.cfg").mkdir()
    parsed = load([str(tmp_path)], {})
    assert parsed.config is not None
    assert [proxy.name for pair in parsed.config.proxies() for proxy in pair if proxy] == ["f", "b"]
    assert parsed.config.frontends[0].location.file == str(tmp_path / "10-f.cfg")


@pytest.mark.parametrize(
    ("target", "why"),
    [("elsewhere.cfg", "No such file or directory"), ("20.cfg", "Too many levels of symbolic links")],
)
def test_a_link_in_a_directory_that_leads_nowhere_is_an_error(tmp_path: Path, target: str, why: str) -> None:
    (tmp_path / "10.cfg").write_text("global\n    maxconn 940\n")
    (tmp_path / "20.cfg").symlink_to(target)
    (tmp_path / ".30.cfg").symlink_to(target)
    parsed = load([str(tmp_path)], {})
    assert parsed.exit_status == 1
    assert said(parsed) == [
        f"[ALERT]    (1) : config : Cannot open configuration file/directory {tmp_path / '20.cfg'} : {why}"
    ]


def test_a_link_in_a_directory_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "written").write_text("global\n    maxconn 940\n")
    (tmp_path / "10.cfg").symlink_to("written")
    (tmp_path / "20.cfg").symlink_to(tmp_path)
    parsed = load([str(tmp_path)], {})
    assert parsed.config is not None
    assert parsed.config.maxconn == 940


def test_a_directory_without_cfg_files_is_an_error(tmp_path: Path) -> None:
    assert said(load([str(tmp_path)], {})) == [
        f"[ALERT]    (1) : config : Cannot open configuration file/directory {tmp_path} : no .cfg file in it"
    ]


def test_every_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    paths = [str(tmp_path / "one"), str(tmp_path / "two.cfg")]
    parsed = load(paths, {})
    assert parsed.config is None
    assert parsed.exit_status == 1
    assert said(parsed) == [
        f"[ALERT]    (1) : config : Cannot open configuration file/directory {path} : No such file or directory"
        for path in paths
    ]


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.cfg"
    path.write_text("global\n")

    def fail(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert said(load([str(path)], {})) == [
        f"[ALERT]    (1) : config : Cannot open configuration file/directory {path} : Permission denied"
    ]


@pytest.mark.parametrize("name", ["a\0b", "", "x" * 5000])
def test_a_name_that_can_be_no_file_raises_nothing(name: str) -> None:
    parsed = load([name], {})
    assert parsed.config is None
    assert len(parsed.diagnostics) == 1


def test_two_files_are_one_configuration_and_a_section_ends_with_its_file(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("defaults\n    timeout client 7s\n")
    two.write_text("    timeout server 1s\nfrontend f\n    bind :80\n")
    lines = said(load([str(one), str(two)], {}))
    assert lines[0].endswith(
        f"[{two}:1] : unknown keyword 'timeout' out of section; a section comes first: "
        "'defaults', 'frontend', 'backend', 'listen', 'udp-lb', 'global'."
    )
    two.write_text("frontend f\n    bind :80\n")
    parsed = load([str(one), str(two)], {})
    assert parsed.config is not None
    assert parsed.config.frontends[0].timeouts.client == 7
