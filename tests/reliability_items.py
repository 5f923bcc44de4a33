"""Statements and labels that the tests of reliability share."""

from interp.surveys.reliability.questionnaires import Item
from interp.surveys.reliability.scoring import Reliability

QUICK = {"resamples": 100}
LABELS = ["anger", "fear", "joy", "sadness"]


def items(n: int) -> list[Item]:
    def item(i: int) -> Item:
        negations = {"direct": f"Not {i}.", "paraphrastic": f"Un-{i}."}
        return Item(f"q:{i}", "made up", f"axis {i % 2}", f"It is {i}.", negations, 1.0)

    return [item(i) for i in range(n)]


def values(found: Reliability) -> dict[str, float]:
    return {name: round(share.value, 12) for name, share in found.measures.items()}
