from pathlib import Path

import pytest

from leoclr.data.contract import DataError
from leoclr.data.layout import find, listed, read_lines, safe


def test_the_root_goes_before_the_folders_below_it(tmp_path: Path) -> None:
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mark").touch()
        assert find(tmp_path, "a", "b", holds="mark", hint="") == (tmp_path / folder).resolve()
    (tmp_path / "mark").touch()
    assert find(tmp_path, "a", holds="mark", hint="") == tmp_path.resolve()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder") as caught:
        find(tmp_path / "nowhere", holds="mark", hint="expected a mark")
    assert caught.value.hint == "expected a mark"
    with pytest.raises(DataError, match="there is no mark"):
        find(tmp_path, "a", holds="mark", hint="")
    with pytest.raises(DataError, match=r"a\.txt: not a readable list"):
        read_lines(tmp_path / "a.txt", "")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x.jpg", "a/../../x.jpg", "a\0.jpg"])
def test_names_that_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"list\.txt: .* does not name an image"):
        safe(name, Path("list.txt"))


def test_missing_images_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "3.jpg").touch()
    with pytest.raises(DataError, match=r"4 of the 5 images of list\.txt are missing: 0\.jpg, 1\.jpg, 2\.jpg, \.\.\.$"):
        listed(tmp_path, [f"{number}.jpg" for number in range(5)], Path("list.txt"), "")
    assert listed(tmp_path, ["3.jpg"], Path("list.txt"), "").paths == (tmp_path / "3.jpg",)
