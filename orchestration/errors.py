"""What can go wrong for a user, as a tree.

    LeoclrOpsError          the user can mend it: place, fact, hint; no traceback          exit 1
      SpecError             a pipeline, sweep or table file says something impossible
      DataProblem           a data set is missing or broken
      FileProblem           a checkpoint of another project cannot be read, or written
      StoreError            the tracking store or an artifact cannot be used
      NotFound              no run, pipeline or table is called that
      StageFailed           a stage ended badly; names the stage, its run and its log      exit 3
    anything else           is ours: it flies, with its traceback

Exit codes: 0 done, 1 the user's to mend, 2 wrong usage of the command line, 3 a stage failed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LeoclrOpsError(Exception):
    """One mistake: where it is (`place`: "pipeline.yaml: stages.probe.kind"), what it is, what to do about it."""

    exit_code = 1

    def __init__(self, fact: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(f"{place}: {fact}" if place else fact)
        self.place, self.fact, self.hint = place, fact, hint


class SpecError(LeoclrOpsError):
    """A pipeline, sweep or table file says something impossible."""


class DataProblem(LeoclrOpsError):
    """A data set is missing or broken."""


class FileProblem(LeoclrOpsError):
    """A checkpoint of another project cannot be read, or written."""


class StoreError(LeoclrOpsError):
    """The tracking store or an artifact cannot be used."""


class Unanswered(StoreError):
    """It cannot be used now, and may be in a while: to ask again makes sense."""


class NotFound(LeoclrOpsError):
    """No run, pipeline or table is called that."""


class StageFailed(LeoclrOpsError):
    """A stage ended badly."""

    exit_code = 3


def render(error: LeoclrOpsError) -> str:
    """Return the text that the user sees.

    >>> print(render(SpecError("no stage kind is called `liner`", place="p.yaml: kind", hint="did you mean `linear`?")))
    error: p.yaml: kind: no stage kind is called `liner`
    <BLANKLINE>
    hint: did you mean `linear`?
    """
    return printable(f"error: {error}" + (f"\n\nhint: {error.hint}" if error.hint else ""), keep="\n")


def printable(text: str, *, keep: str = "") -> str:
    """Return `text` with its control characters escaped, but for those to `keep`: it cannot move the cursor.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of `known`, or all of them where none is near.

    >>> did_you_mean("liner", ["linear", "transfer"])
    'did you mean `linear`?'
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(f"`{name}`" for name in names)
