"""Plain text for perplexity, cut into documents."""

from pathlib import Path

import pytest

from interp.run.config import Config
from interp.run.inputs import Inputs
from interp.texts.plain_documents import HELD_BACK, documents, load_plain_text, running_text

WIKITEXT = Path(__file__).parents[2] / "shared" / "data" / "wikitext2"


def test_a_separator_decides_alone():
    assert documents("one\n\nstill one<|endoftext|> two \n<|endoftext|>\n") == ["one\n\nstill one", "two"]


def test_articles_begin_at_their_titles_and_keep_their_sections():
    text = " \n = A Title = \n \n Text = more . \n \n = = A Section = = \n \n More . \n = 2 k = \n b . \n"
    text += " \n = Another one = \n \n Its text . \n"
    assert documents(text) == [
        "= A Title = \n \n Text = more . \n \n = = A Section = = \n \n More . \n = 2 k = \n b .",
        "= Another one = \n \n Its text .",
    ]


def test_without_either_paragraphs_are_documents():
    assert documents("One line\nand its next.\n\nTwo.\r\n \r\n\n\nThree.") == [
        "One line\nand its next.",
        "Two.",
        "Three.",
    ]
    assert documents("\n \n") == []


@pytest.mark.shared
@pytest.mark.parametrize(("part", "articles"), [("valid", 60), ("test", 60)])
def test_wikitext_has_its_articles(part, articles):
    found = documents((WIKITEXT / f"{part}.txt").read_text(encoding="utf-8"))
    assert len(found) == articles
    assert all(d.startswith("= ") and not d.startswith("= =") for d in found)


def test_no_price_is_measured_on_text_that_gates_are_fitted_on():
    measured = Inputs(Config()).plain_documents
    assert len(running_text()) == HELD_BACK
    assert not set(measured) & set(running_text())
    assert [*measured, *reversed(running_text())] == load_plain_text(None)
