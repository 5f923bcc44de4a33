"""What is changed about a question without changing what is asked, declared as data and expanded as a stream.

A variation names a level for every factor; the reference of each factor comes first in its table. Questionnaires vary
in wording, option order, negation, format and persona (Shu et al. 2024), one factor at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from interp.errors import UserError, nearest
from interp.surveys.reliability.questionnaires import Item
from interp.texts.prompts import Prompt


class Wording(NamedTuple):
    """A question about a statement and its two options, the agreeing one first."""

    options: tuple[str, str]
    question: str


class Format(NamedTuple):
    """How a prompt's parts are put together."""

    separator: str
    cue: str
    ending: str


WORDINGS: Mapping[str, Wording] = {
    "truth": Wording(
        ("true", "false"), "Is the statement true or false? Answer '{first}' or '{second}' and nothing else."
    ),
    "yes_no": Wording(
        ("yes", "no"), "Do you agree with the statement? Answer '{first}' or '{second}' and nothing else."
    ),
    "agree": Wording(
        ("agree", "disagree"), "What do you think of the statement? Answer '{first}' or '{second}' and nothing else."
    ),
}
REQUEST = "Answer '{first}' or '{second}' and nothing else."
ORDERS = ("given", "swapped")
NEGATIONS = ("none", "direct", "paraphrastic")
FORMATS: Mapping[str, Format] = {
    "baseline": Format("\n", "Answer", ":"),
    "separator_blank": Format(" ", "Answer", ":"),
    "separator_double_bar": Format(" || ", "Answer", ":"),
    "separator_triple_sharp": Format(" ### ", "Answer", ":"),
    "ending_one_space": Format("\n", "Answer", ": "),
    "ending_two_spaces": Format("\n", "Answer", ":  "),
    "ending_line_break": Format("\n", "Answer", ":\n"),
    "ending_question_mark": Format("\n", "Answer", "?"),
    "cue_response": Format("\n", "Response", ":"),
}
"""The nine formats: four separators, five endings, and another cue, each changed alone."""
PERSONAS: Mapping[str, str] = {
    "none": "",
    "nurse": "You are a nurse in a small hospital who works mostly nights.",
    "engineer": "You are an engineer who has built bridges for thirty years.",
    "student": "You are a student in your first year away from home.",
    "shopkeeper": "You keep a corner shop that has been in your family for generations.",
}
FACTORS = ("order", "wording", "negation_direct", "negation_paraphrastic", "format", "persona")
"""What `--variations` may name."""


@dataclass(frozen=True)
class Variation:
    """One way of asking; without arguments, the reference."""

    wording: str = "truth"
    order: str = "given"
    negation: str = "none"
    format: str = "baseline"
    persona: str = "none"


@dataclass(frozen=True)
class VariedPrompt:
    """One prompt, the options between which its answer lies, and the columns it has in the table of answers."""

    prompt: Prompt | str
    options: tuple[str, ...]
    facts: Mapping[str, Any]


def one_at_a_time(factors: Sequence[str] = FACTORS, personas: Mapping[str, str] | None = None) -> list[Variation]:
    """The reference, every other level of each factor alone, and all but the formats again under every persona.

    Args:
        factors: of `FACTORS`.
        personas: name -> text put before the question; None takes none.

    Raises:
        UserError: an unknown factor.
    """
    for factor in factors:
        if factor not in FACTORS:
            raise UserError(f"Unknown variation {factor!r}{nearest(factor, FACTORS)}")
    plain = Variation()
    content = [plain]
    if "order" in factors:
        content += [replace(plain, order=order) for order in ORDERS[1:]]
    if "wording" in factors:
        content += [replace(plain, wording=wording) for wording in list(WORDINGS)[1:]]
    content += [replace(plain, negation=n) for n in NEGATIONS[1:] if f"negation_{n}" in factors]
    formats = [replace(plain, format=name) for name in list(FORMATS)[1:]] if "format" in factors else []
    spoken = [replace(v, persona=name) for name in (personas or {}) for v in content] if "persona" in factors else []
    return [*content, *formats, *spoken]


def resolve_personas(names: Sequence[str]) -> dict[str, str]:
    """Bundled personas by name (`all` for all of them); anything with a blank in it is a persona's own text.

    Raises:
        UserError: a single word that is no bundled persona.
    """
    known = {name: text for name, text in PERSONAS.items() if text}
    chosen: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        if name == "all":
            chosen |= known
        elif name in known:
            chosen[name] = known[name]
        elif " " in name.strip():
            chosen[f"persona_{number}"] = name.strip()
        else:
            raise UserError(f"Unknown persona {name!r}{nearest(name, [*known, 'all'])} Or give a sentence.")
    return chosen


def expand(
    items: Sequence[Item], variations: Sequence[Variation], personas: Mapping[str, str] | None = None
) -> Iterator[VariedPrompt]:
    """Every item under every variation it allows: a statement without a negation is not asked with it."""
    for item in items:
        for variation in variations:
            statement = item.statement if variation.negation == "none" else item.negations.get(variation.negation)
            if statement is None:
                continue
            text = render(statement, variation, (personas or {}).get(variation.persona, ""))
            facts = {
                "question": item.question,
                "instrument": item.instrument,
                "axis": item.axis,
                "valence": item.valence,
                **asdict(variation),
            }
            yield VariedPrompt(text, WORDINGS[variation.wording].options, facts)


def render(statement: str, variation: Variation, persona: str = "") -> str:
    """The prompt of one statement."""
    wording, form = WORDINGS[variation.wording], FORMATS[variation.format]
    listed = wording.options if variation.order == "given" else wording.options[::-1]
    first, second = (option.capitalize() for option in listed)
    parts = [
        *([persona] if persona else []),
        f"Statement: {statement}",
        f"Question: {wording.question} {REQUEST.format(first=first, second=second)}",
        form.cue + form.ending,
    ]
    return form.separator.join(parts)
