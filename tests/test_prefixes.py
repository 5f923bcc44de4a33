"""Sequences that share beginnings: each beginning is computed once, and nothing else changes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_passes import log_probabilities

from interp.engine.prefixes import LEAST_SHARED, Branch, grow, next_tokens


def sequences() -> list[list[int]]:
    """Shared beginnings of several depths, one that begins another, one twice, one alone."""
    rng = np.random.default_rng(0)
    draw = lambda n: rng.integers(2, 400, n).tolist()  # noqa: E731
    long, middle = draw(20), draw(12)
    several = [long + middle + draw(int(n)) for n in (3, 1, 9)] + [long + draw(5), long, draw(7), draw(30)]
    return [*several, several[0], long + middle]


def test_shared_prefixes_change_nothing(any_model):
    asked = sequences()
    wanted = [torch.arange(400)] * len(asked)
    shared, top = next_tokens(any_model, asked, wanted)
    alone, top_alone = next_tokens(any_model, asked, wanted, share_prefixes=False)
    few, _ = next_tokens(any_model, asked, wanted, tokens_per_batch=40)
    for ids, a, b, c in zip(asked, shared, alone, few, strict=True):
        brute = log_probabilities(any_model, ids)
        for found in (a, b, c):
            assert (found - brute).abs().max() < 1e-5 * max(1, brute.abs().max())
    assert torch.equal(top, top_alone)


def test_the_tree_computes_what_is_shared_once():
    asked = sequences()
    branches = grow(asked)
    assert sum(len(b.tokens) for b in branches) < sum(map(len, asked)) - 3 * 20 - 12
    assert sorted(end for b in branches for end in b.ends) == list(range(len(asked)))
    for branch in branches:
        path, at = [], branch
        while at is not None:
            path, at = at.tokens + path, at.parent
        assert all(asked[end] == path for end in branch.ends)


def sequence_of(branch: Branch | None) -> list[int]:
    """All tokens from the root of the tree to a branch's last."""
    return [] if branch is None else sequence_of(branch.parent) + branch.tokens


def descendants(branch: Branch) -> list[int]:
    """The sequences that go through a branch."""
    return branch.ends + [end for child in branch.children for end in descendants(child)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 40), st.lists(st.integers(0, 2), min_size=1, max_size=25)),
        max_size=12,
    )
)
def test_every_sequence_is_found_again_in_the_tree(drawn):
    """Sequences that share beginnings of every length, twice or as the whole of another, in any order."""
    asked = [[beginning] * n + rest for beginning, n, rest in drawn]
    branches = grow(asked)
    ended = {end: sequence_of(branch) for branch in branches for end in branch.ends}
    assert ended == dict(enumerate(asked))
    assert sum(len(branch.ends) for branch in branches) == len(asked)
    places = {id(branch): place for place, branch in enumerate(branches)}
    for place, branch in enumerate(branches):
        assert branch.tokens
        assert branch.parent is None or places[id(branch.parent)] < place
        assert branch.past == len(sequence_of(branch.parent))
        assert all(child.parent is branch for child in branch.children)
        if branch.children:  # worth a pass of its own
            assert len(branch.tokens) * (len(descendants(branch)) - 1) >= LEAST_SHARED
