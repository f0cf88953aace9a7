"""Data sets on this machine: `check` says what is missing or wrong, `fetch` downloads what may be downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from leoclr import data as datasets
from leoclr.data import birdsnap, corrupt, digest_cache, manifest, packed
from leoclr.data.contract import DataError, DataSet
from leoclr.data.files import Files
from orchestration.archives import ARCHIVES, BY_HAND, COUNTS, MD5, Archive
from orchestration.download import Show, download, md5_of, unpack
from orchestration.errors import DataProblem, NotFound, did_you_mean
from orchestration.storage import locked

SAMPLE = 100  # images of each split that a check decodes unless it is asked for all
_SHOWN = 10  # damaged or missing images that a report names


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check looked at."""

    level: Literal["ok", "warn", "fail"]
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found; the data set can be used when no finding failed."""

    name: str
    root: Path
    digest: str | None  # sha256 (hex) of content and split rule; None when the data cannot be read
    counts: Mapping[str, int]  # images by split
    classes: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.level != "fail" for finding in self.findings)


def check(name: str, root: Path, *, decode: bool = False) -> Report:
    """Return what is there of data set `name` in `root`; `decode` reads every image instead of a sample.

    Files are read and listed anew, whatever is remembered of them. Nothing is written to `root`, save the files of a
    generated set.

    Raises: NotFound when no data set is called that.
    """
    module = datasets.module(known(name))
    digest_cache.forget(root)
    digest = None
    try:
        digest = module.digest(root)
        data = module.load(root)
    except (DataError, OSError) as error:  # OSError: such as a folder that may not be entered
        hints = [getattr(error, "hint", ""), _advice(name) if name in ARCHIVES else ""]
        return Report(name, root, digest, {}, 0, (Finding("fail", str(error), "; or ".join(filter(None, hints))),))
    findings = (
        Finding("ok", f"digest {digest}"),
        *_counted(name, data),
        *(_stored(root) if manifest.is_store(root) else (*_summed(name, root), *_absent(name, root))),
        *_decoded(data, every=decode),
    )
    counts = {split: len(part) for split, part in data.splits.items()}
    return Report(name, root, digest, counts, len(data.classes), findings)


def fetch(name: str, root: Path, show: Show, *, mirror: str | None = None) -> tuple[str, ...]:
    """Download data set `name` and unpack it in `root`, from where it stopped; return the archives that it brought.

    What is there already is not fetched again. `show` is called with the bytes so far and of the whole archive, archive
    by archive. `mirror` is the address of a server to ask in place of the publishers', under the same paths.

    Raises: NotFound when no data set is called that; DataProblem when it is not there and no program may download it,
        a download fails, an archive is not the published one, or `root` cannot be written; StoreError when another
        process is fetching it.
    """
    archives = ARCHIVES.get(known(name))
    if archives is None:
        return _by_hand(name, root)
    try:
        with locked(root / ".fetch" / "lock"):
            return tuple(archive.name for archive in archives if _bring(archive, root, show, mirror=mirror))
    except OSError as error:  # a folder that cannot be made, or is read-only
        fact = f"{error.filename or root}: {error.strerror}"
        raise DataProblem(fact, place=f"data set {name}", hint="name another folder: --root DIR") from error


def _by_hand(name: str, root: Path) -> tuple[str, ...]:
    """Say where a set comes from, and how it must lie, that no program may download; nothing when it is there."""
    try:
        datasets.module(name).digest(root)
    except DataError as error:
        hint = f"{_advice(name)}; {error.hint}"
        raise DataProblem(
            f"it is not there, and cannot be downloaded: {error}", place=f"data set {name}", hint=hint
        ) from error
    return ()


def _bring(archive: Archive, root: Path, show: Show, *, mirror: str | None) -> bool:
    """Download and unpack one archive; return whether there was anything to do."""
    done = root / archive.makes / f".{archive.name}.md5"  # goes when the user removes what was unpacked
    if done.is_file() and done.read_text(encoding="ascii") == archive.md5:
        return False
    file = root / ".fetch" / archive.name
    url = archive.url if mirror is None else mirror.rstrip("/") + urlsplit(archive.url).path
    download(url, file, md5=archive.md5, show=show)
    unpack(file, root / archive.into)
    if not done.parent.is_dir():
        raise DataProblem(f"it does not hold {archive.makes}", place=url)
    done.write_text(archive.md5, encoding="ascii")
    file.unlink()
    return True


def known(name: str) -> str:
    """Return `name` if a data set is called that. Raises: NotFound."""
    if name not in datasets.DATASETS:
        raise NotFound(f"no data set is called `{name}`", hint=did_you_mean(name, datasets.DATASETS))
    return name


def _advice(name: str) -> str:
    """Return how to come by the data set."""
    if name in ARCHIVES:
        return f"leoclr-ops data fetch {name} --root DIR"
    return BY_HAND.get(name, "these are your own images" if name == "folder" else "it comes inside a package")


def _counted(name: str, data: DataSet) -> list[Finding]:
    found = {**{split: len(part) for split, part in data.splits.items()}, "classes": len(data.classes)}
    text = ", ".join(f"{count:,} {what}" for what, count in found.items())
    expected = COUNTS.get(name)
    if expected is None or expected == found:
        return [Finding("ok", text + ("" if expected is None else ", as published"))]
    published = ", ".join(f"{count:,} {what}" for what, count in expected.items())
    return [Finding("warn", f"{text}; published are {published}", "numbers compare only on equal data")]


def _summed(name: str, root: Path) -> list[Finding]:
    """Compare the files with the md5 sums that torchvision publishes for them; the binary CIFAR files have none."""
    sums = MD5.get(name, {})
    folders = [root, *(root / archive.makes for archive in ARCHIVES.get(name, ()))]
    files = [(folder / file, md5) for folder in folders for file, md5 in sums.items() if (folder / file).is_file()]
    wrong = [path.name for path, md5 in files if md5_of(path) != md5]
    if wrong:
        text = f"{len(wrong)} of {len(files)} files have not the published md5: {', '.join(wrong)}"
        return [Finding("warn", text, "they are whole, but not the published ones")]
    return [Finding("ok", f"{len(files)} files have the published md5")] if files else []


def _absent(name: str, root: Path) -> list[Finding]:
    """Name listed images that are not there, of the one set whose lists outlived its images."""
    missing = birdsnap.missing(root) if name == "birdsnap" else ()
    if not missing:
        return []
    text = f"{len(missing):,} listed images are not there: {_some(missing)}"
    return [Finding("warn", text, "they are left out; many are gone from the web")]


def _decoded(data: DataSet, *, every: bool) -> list[Finding]:
    parts = [part if every else _sample(part) for part in _files(data)]
    if not parts:
        return []
    try:
        bad = corrupt.unreadable(parts)
    except DataError as error:
        return [Finding("fail", str(error), error.hint)]
    looked = f"{sum(map(len, parts)):,} images decoded" + ("" if every else ", a sample; --decode reads all")
    if not bad:
        return [Finding("ok", looked)]
    hint = (
        f"replace them, or leave them out: `corrupt: {{policy: skip, limit: {len(bad)}}}` in the params of each stage"
    )
    return [Finding("fail", f"{looked}; {len(bad):,} are damaged: {_some([str(path) for path in bad])}", hint)]


def _stored(root: Path) -> list[Finding]:
    """Compare the files of a packed store with their sha256."""
    found = manifest.read(root)
    how = f"{found.form}, side {found.side}" + (f", quality {found.quality}" if found.form == "jpeg" else "")
    left_out = f"; {len(found.left_out):,} damaged originals were left out" if found.left_out else ""
    told = Finding("ok", f"packed as {how}, from originals with digest {found.source[:12]}{left_out}")
    bad = packed.problems(root)
    hint = "pack the data set anew, or copy the store anew"
    return (
        [told, *(Finding("fail", fact, hint) for fact in bad)] if bad else [told, Finding("ok", "every sha256 agrees")]
    )


def _files(data: DataSet) -> list[Files]:
    return [split.images for split in data.splits.values() if isinstance(split.images, Files)]


def _sample(files: Files) -> Files:
    """Return at most SAMPLE images, evenly spread."""
    step = max(1, len(files) // SAMPLE)
    return Files(files.paths[::step][:SAMPLE])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
