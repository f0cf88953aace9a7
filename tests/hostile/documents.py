"""Files that nobody should write: honest YAML with something wrong in it, and text that was never YAML."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from orchestration import spec
from orchestration.cluster import folders
from orchestration.document import Place, read
from orchestration.sweep import spec as sweep_spec
from orchestration.table import spec as table_spec

SHIPPED: dict[str, list[Path]] = {
    "pipeline": list(spec.shipped().values()),
    "sweep": list(sweep_spec.shipped().values()),
    "table": list(table_spec.shipped().values()),
    "profile": list(folders.shipped().values()),
}
ODD_TEXT = [
    *(
        "",
        " ",
        "~",
        "null",
        "yes",
        "NO",
        "1e999",
        "-1",
        ".inf",
        ".nan",
        "0x10",
        "1:30",
        "2026-01-02",
        "=",
        "<<",
        "!",
        "&",
    ),
    *("../../../etc/passwd", "/etc/passwd", "~root/x", "~nobody_is_called_this/x", "a/../../b", "..", ".", "/", "a\tb"),
    *(
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/",
        "http://a:b@c/",
        "gopher://x",
        "s3://",
    ),
    *(
        "$(touch x)",
        "`touch x`",
        "; touch x",
        "${HOME}",
        "%s%s%n",
        "{0.__class__}",
        "{{7*7}}",
        "<script>alert(1)</script>",
    ),
    *(
        "A" * 300,
        "A" * 5000,
        "\u202eevil",
        "\u00a0",
        "\u0130",
        "na\u00efve",
        "\U0001f600",
        "\ufb01",
        "\u2028",
        "e\u0301",
    ),
    *("\x00", "\x1b[2J", "\x7f", "\r", "\n", "\ud800", "\ufeff", "\x85"),
    *("leoclr", "mnist5k", "pretrain", "linear", "seed", "matrix", "stages", "method", "imported", "name"),
]
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 10**9, 2**63 - 1, -(2**63), 10**30, 0.0, -0.0, 1e-320, 1e308, float("inf"), 0.5),
    *([], {}, [[]], [None], [[[[[]]]]], {"": ""}, {"a": {"b": {"c": {"d": 1}}}}, [1, "a", None, {}], list(range(1200))),
    *({"..": 1}, {"../x": 1}, {"a.b.c": 1}, {"__class__": 1}, {"kind": "pretrain"}, {"params": None}, {"env": "HOME"}),
    *ODD_TEXT,
]
PIECES = [
    *(
        "a: &x [*x]",
        "<<: *x",
        "<<: {a: 1}",
        "a: !!python/object/apply:os.system ['touch x']",
        "!!binary aGk=",
        "? [a]\n: b",
    ),
    *(
        "a: !!python/name:os.system ''",
        "%YAML 1.1\n---",
        "---",
        "...",
        "- - - - -",
        "\t",
        "a: |\n  b",
        "a: >-\n\n",
        "{" * 40,
    ),
    *(
        "[" * 5000,
        "a: b: c",
        "'",
        '"',
        '"\\uD800"',
        '"\\UFFFFFFFF"',
        '"\\x00"',
        "\x00",
        "\ufeff",
        "\x85",
        "#",
        "@",
        "`",
    ),
    *(
        "seed: [0, 0]",
        "stages: {}",
        "matrix: {seed: []}",
        "needs: [pretrain, pretrain]",
        "name: ../x",
        "data: {coco: ..}",
    ),
    *("x: &a [1,2]\ny: [*a,*a]", "!<tag:yaml.org,2002:python/object:os.system> {}", "!!set {a}", "!!omap [a: 1]"),
]


@st.composite
def broken_text(draw: st.DrawFn, kind: str) -> bytes:
    """Return a shipped file with lines and bytes of it cut, doubled, moved or replaced."""
    lines = draw(st.sampled_from(SHIPPED[kind])).read_text().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        act = draw(st.sampled_from(("drop", "double", "insert", "indent", "value", "cut", "key")))
        line = lines[at] if lines else ""
        if act == "drop":
            del lines[at : at + draw(st.integers(1, 4))]
        elif act == "double":
            lines.insert(at, line)
        elif act == "insert":
            lines.insert(at, " " * draw(st.integers(0, 6)) + draw(st.sampled_from(PIECES)))
        elif act == "indent":
            lines[at : at + 1] = [" " * draw(st.integers(1, 3)) + line]
        elif act == "value":
            lines[at : at + 1] = [line.partition(":")[0] + ": " + draw(st.sampled_from(ODD_TEXT + PIECES))]
        elif act == "key":
            lines[at : at + 1] = [draw(st.sampled_from(ODD_TEXT)) + ":" + line.partition(":")[2]]
        else:
            lines[at:] = [line[: draw(st.integers(0, len(line)))]]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def broken_tree(draw: st.DrawFn, kind: str) -> bytes:
    """Return a shipped file with values and keys of it replaced: YAML that is well formed and says nonsense."""
    path = draw(st.sampled_from(SHIPPED[kind]))
    tree: Any = copy.deepcopy(read(path.read_text(), Place(path.name)))
    for _ in range(draw(st.integers(1, 3))):
        tree = _spoilt(draw, tree)
    odd = draw(st.booleans())
    content = yaml.safe_dump(tree, allow_unicode=odd, sort_keys=False) if odd else json.dumps(tree)
    return content.encode("utf-8", "surrogatepass")


def _spoilt(draw: st.DrawFn, tree: Any) -> Any:
    """Return `tree` with one node replaced, removed, renamed or put one deeper."""
    if isinstance(tree, dict | list) and tree and draw(st.integers(0, 9)):
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = draw(st.sampled_from(keys))
        act = draw(st.sampled_from(("below", "below", "below", "below", "drop", "rename", "add")))
        if act == "drop":
            del tree[key]
        elif act == "rename" and isinstance(tree, dict):
            tree[draw(st.sampled_from(ODD_TEXT))] = tree.pop(key)
        elif act == "add" and isinstance(tree, dict):
            tree[draw(st.sampled_from(ODD_TEXT))] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
        else:
            tree[key] = _spoilt(draw, tree[key])
        return tree
    return copy.deepcopy(draw(st.sampled_from(ODD_VALUES))) if draw(st.integers(0, 3)) else [tree]


@st.composite
def junk(draw: st.DrawFn) -> bytes:
    """Return bytes, text, or a shipped file with single bytes moved."""
    form = draw(st.integers(0, 2))
    if form == 0:
        return draw(st.binary(max_size=200))
    if form == 1:
        alphabet = "{}[]:,-&*!|>'\"%@`# \n\t\\ux0e1.a?~<=\x00\x1b\x85\u2028\ufeff\ud800"
        return draw(st.text(alphabet, max_size=120)).encode("utf-8", "surrogatepass")
    content = bytearray(draw(st.sampled_from([path for paths in SHIPPED.values() for path in paths])).read_bytes())
    for _ in range(draw(st.integers(1, 5))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def files(kind: str) -> st.SearchStrategy[bytes]:
    """Return broken files of a kind."""
    return st.one_of(broken_tree(kind), broken_text(kind), junk())
