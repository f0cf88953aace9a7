import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestration.cluster import package
from orchestration.errors import LeoclrOpsError


def names(content: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(content)).namelist())


def test_an_image_needs_the_files_alone_and_equal_content_has_one_name() -> None:
    name, content = package.pack({"b.yaml": b"2", "a.yaml": b"1"}, "image")
    assert names(content) == {"a.yaml", "b.yaml"}
    assert package.pack({"a.yaml": b"1", "b.yaml": b"2"}, "image") == (name, content)
    assert package.pack({"a.yaml": b"1", "b.yaml": b"3"}, "image")[0] != name
    assert name.startswith("leoclr-ops-")
    assert name.endswith(".zip")


@pytest.mark.parametrize("code", ["wheel", "working_tree"])
def test_our_code_runs_from_the_package_alone(code: package.Code, tmp_path: Path) -> None:
    _, content = package.pack({"pipeline.yaml": b"a: 1"}, code)
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
    assert not [name for name in names(content) if "__pycache__" in name or "/." in name]
    program = (
        "import jobs, leoclr, importlib.metadata as m; from orchestration import errors;"
        "from orchestration.cluster import folders;"
        "print(errors.__file__, jobs.__file__, leoclr.__file__, len(folders.shipped()), m.version('leoclr-ops'))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    *files, profiles, version = done.stdout.split()
    assert [(tmp_path / each).parents[1] for each in files] == [tmp_path] * 3
    assert int(profiles) >= 4
    assert version


def repository(folder: Path) -> Path:
    for name in ("orchestration", "jobs"):
        (folder / name).mkdir(parents=True)
    (folder / "orchestration" / "old.py").write_text("old")
    (folder / "orchestration" / "gone.py").write_text("gone")
    (folder / "notes.txt").write_text("mine")
    (folder / ".gitignore").write_text("*.secret\n")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    return folder


def test_a_working_tree_is_sent_as_it_is_now(tmp_path: Path) -> None:
    root = repository(tmp_path / "tree")
    assert not package.has_new(root)
    (root / "orchestration" / "old.py").write_text("changed")
    (root / "orchestration" / "gone.py").unlink()
    (root / "jobs" / "new.py").write_text("new")
    (root / "jobs" / "key.secret").write_text("key")
    (root / "jobs" / "link.py").symlink_to("/etc/hostname")
    _, content = package.pack({}, "working_tree", root)
    found = names(content)
    assert {name for name in found if "dist-info" not in name} == {"orchestration/old.py", "jobs/new.py"}
    assert zipfile.ZipFile(io.BytesIO(content)).read("orchestration/old.py") == b"changed"
    assert package.has_new(root)


def test_what_is_no_checkout_is_told(tmp_path: Path) -> None:
    with pytest.raises(LeoclrOpsError, match="this is no git checkout") as caught:
        package.pack({}, "working_tree", tmp_path)
    assert "code: wheel" in caught.value.hint


def test_far_too_much_is_not_sent(tmp_path: Path) -> None:
    root = repository(tmp_path / "tree")
    (root / "orchestration" / "weights.bin").write_bytes(bytes((50 << 20) + 1))
    with pytest.raises(LeoclrOpsError, match="52 MB of files would be sent"):
        package.pack({}, "working_tree", root)
