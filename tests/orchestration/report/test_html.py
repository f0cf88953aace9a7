"""Text is escaped, markup is not escaped twice."""

from orchestration.report.html import Cell, Html, anchor, facts, join, link, region, show, table, tag
from orchestration.report.sections import seed_words

EVIL = '"><script>x</script>'


def test_text_is_escaped_wherever_it_goes() -> None:
    pieces = [
        tag("p", EVIL, class_=EVIL), link("x", EVIL), region(EVIL, EVIL), facts([(EVIL, EVIL)]),
        table(EVIL, [EVIL, EVIL], [[EVIL, Cell(EVIL, best=True)]]), join([EVIL, Html("<b>y</b>")]),
    ]  # fmt: skip
    for piece in pieces:
        assert "<script" not in piece
        assert "&lt;script&gt;" in piece
        assert isinstance(piece, Html)


def test_markup_stays_and_the_sign_is_one() -> None:
    assert show(tag("b", "1 +- 2")) == "<b>1 &plusmn; 2</b>"
    assert join(["", Html("<i>x</i>"), "a&b"]) == "<i>x</i>\na&amp;b"


def test_ids_are_ids() -> None:
    assert anchor("run", 'x" onclick="y') == "run-x-onclick-y"


def test_seeds_in_words() -> None:
    assert seed_words('{"seed": "0"}') == "0"
    assert seed_words('{"seed": "0", "lr": "0.1"} 8f31') == "0 lr=0.1"
    assert seed_words("[0, 1] 8f31") == "0, 1"
    assert seed_words("{}") == ""
