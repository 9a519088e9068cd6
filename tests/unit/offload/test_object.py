"""The object that is committed is what the compiler makes of the source beside it."""

import os
import shutil
import subprocess

import pytest

from natlb.offload.program import OBJECT

BUILD = OBJECT.with_name("build.sh")


@pytest.fixture
def compiler() -> None:
    """The compiler that the object was made with."""
    missing = [name for name in ("clang-14", "llvm-strip-14") if shutil.which(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} cannot be found; scripts/setup.sh test installs them"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.usefixtures("compiler")
def test_the_object_is_made_of_its_source_in_whatever_folder(tmp_path):
    for file in OBJECT.with_name("flow.bpf.c"), BUILD:
        shutil.copy(file, tmp_path)
    subprocess.run([tmp_path / "build.sh", tmp_path / "made.o"], check=True, cwd="/")
    assert (tmp_path / "made.o").read_bytes() == OBJECT.read_bytes(), "run natlb/offload/build.sh and commit the object"


@pytest.mark.usefixtures("compiler")
def test_another_source_makes_another_object(tmp_path):
    source = OBJECT.with_name("flow.bpf.c").read_text()
    (tmp_path / "flow.bpf.c").write_text(source.replace("ip->ttl <= 1", "ip->ttl <= 2"))
    shutil.copy(BUILD, tmp_path)
    subprocess.run([tmp_path / "build.sh"], check=True)
    assert (tmp_path / "flow.bpf.o").read_bytes() != OBJECT.read_bytes()


def test_without_the_compiler_the_build_says_what_to_install(tmp_path):
    done = subprocess.run(
        ["/bin/bash", BUILD, tmp_path / "made.o"],
        env={"PATH": str(_only(tmp_path, "dirname", "realpath"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "build.sh: clang-14 is missing: apt install clang-14 llvm-14\n"


def test_nothing_of_the_machine_is_in_the_object():
    content = OBJECT.read_bytes()
    for path in (b"/usr", b"/home", b"/tmp", b"/root", b"/work"):
        assert path not in content


def _only(folder, *programs):
    """Return a folder in which these programs are, and no others."""
    made = folder / "bin"
    made.mkdir()
    for program in programs:
        (made / program).symlink_to(shutil.which(program))
    return made
