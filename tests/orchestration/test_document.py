"""What YAML would bend is refused or read as everybody means it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.document import MAX_BYTES, Place, Tree, dump, read, read_file, show
from orchestration.errors import SpecError

PLACE = Place("p.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("-1.5e+2", -150.0),
        ("010", 10),  # YAML 1.1: 8
        ("-9223372036854775808", -(2**63)),
        ("0000000000000000000000007", 7),
        ("1:30", "1:30"),  # YAML 1.1: 90
        ("1_000", "1_000"),  # YAML 1.1: 1000
        ("2026-01-02", "2026-01-02"),  # YAML 1.1: a date
        ("yes", "yes"),  # YAML 1.1: true
        ("off", "off"),
        ("NO", "NO"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        (".inf", ".inf"),
        ("<<", "<<"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Tree) -> None:
    read_back = read(text, PLACE)
    assert read_back == value
    assert type(read_back) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "p.yaml: a: this key is given twice, again on line 3"),
        ("a: {b: 1, b: 1}", "p.yaml: a.b: this key is given twice, again on line 1"),
        ("a: &x 1", "p.yaml: line 1, column 4: anchors and aliases are not used here"),
        ("a: [*x]", "p.yaml: line 1, column 5: anchors and aliases are not used here"),
        ("a: [1, 2", "p.yaml: line 1, column 9: expected ',' or ']', but got '<stream end>'"),
        ("a:\n\t- 1", "p.yaml: line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2", "p.yaml: line 2, column 1: but found another document"),
        ("1: a", "p.yaml: a key must be one line of text, got `1`"),
        ("[a]: b", 'p.yaml: a key must be one line of text, got `["a"]`'),
        ("a: !!set {b}", "p.yaml: a: the tag `tag:yaml.org,2002:set` is not used here"),
        (
            "a: !!python/name:os.system ''",
            "p.yaml: a: the tag `tag:yaml.org,2002:python/name:os.system` is not used here",
        ),
        ("a: !!int abc", "p.yaml: a: `abc` is not of type `int`"),
        ("a: 1e999", "p.yaml: a: the number `1e999` is too large"),
        ("a: 9223372036854775808", "p.yaml: a: the number `9223372036854775808` is too large"),
        ('a: "\\e[2J"', "p.yaml: a: control characters are not used here, got `\\x1b[2J`"),
        ('a: "\\uD800"', "p.yaml: a: control characters are not used here, got `\\ud800`"),
        ("[" * 30 + "]" * 30, "p.yaml: line 1, column 26: nested more than 24 deep"),
        ('"\\UFFFFFFFF"', "p.yaml: cannot be read as YAML: not YAML"),
        ("a: \x07", "p.yaml: cannot be read as YAML: special characters are not allowed"),
    ],
)
def test_refusals_name_the_place(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text, PLACE)
    assert str(caught.value) == message


def test_huge_numbers_and_files_are_refused_quickly(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(SpecError, match="is too large"):
        read("9" * 100_000, PLACE)
    path = tmp_path_factory.mktemp("big") / "big.yaml"
    path.write_text("# " + "x" * MAX_BYTES)
    with pytest.raises(SpecError, match="longer than"):
        read_file(path, "big.yaml")
    path.write_bytes(b"a: \xff")
    with pytest.raises(SpecError, match=r"big.yaml: is not UTF-8 text \(byte 3\)"):
        read_file(path, "big.yaml")
    with pytest.raises(SpecError, match="Is a directory"):
        read_file(path.parent, "folder")


words = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=8)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
ODD = ["yes", "1e-3", "010", "null", "", "2026-01-02", "=", "<<", "a\nb", " a ", "1:30", "#", "- a", "&a", "!a"]
trees = st.recursive(
    leaves | words | st.sampled_from(ODD),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=3),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=60, deadline=None)
def test_what_is_dumped_is_read_back(tree: Tree) -> None:
    assert repr(read(dump(tree), PLACE)) == repr(tree)


@given(st.text(max_size=60) | st.text(alphabet="{}[]:,-&*!|>'\"%@`# \n\t\\ux0e1.a?~<", max_size=40))
@settings(max_examples=150, deadline=None)
def test_junk_is_a_tree_or_a_spec_error(text: str) -> None:
    tree, message = None, "p.yaml"
    try:
        tree = read(text, PLACE)
    except SpecError as error:
        message = str(error)
    assert message.startswith("p.yaml")
    assert message.isprintable()
    assert repr(read(dump(tree), PLACE)) == repr(tree)


def test_show_shortens_and_escapes() -> None:
    assert show("\x1b[2J") == "`\\x1b[2J`"
    assert len(show("a" * 500)) == 62
