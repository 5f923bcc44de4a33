"""Next-token distributions of many token sequences, each shared prefix passed through the model once.

Variations of a question share most of their prompt. The sequences of a batch form a tree; every branch is computed
once and attends to the keys and values that the branches above it left behind.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from interp.engine.capture import TOKENS_PER_BATCH
from interp.engine.suffix import ResidualEdit
from interp.models.language_model import Edit, LanguageModel, Tokens

LEAST_SHARED = 16
"""Tokens that a branch must save to be worth a pass of its own."""
MARKED = 1 << 40
"""Added to the id of a token whose residual is edited: what is shared must be edited alike."""
PADDING = 0.25
"""Largest share of a pass that may be padding of the branches' own tokens, once the pass is large enough to pay."""

KeysAndValues = tuple[Float[Tensor, "kv_head token d_head"], Float[Tensor, "kv_head token d_head"]]


@dataclass
class Branch:
    """Tokens that come after a parent's; `ends` are the sequences whose last token is the branch's last."""

    tokens: list[int]
    parent: "Branch | None"
    ends: list[int] = field(default_factory=list)
    children: list["Branch"] = field(default_factory=list)
    cache: list[KeysAndValues] = field(default_factory=list)
    """By layer, of all tokens from the first on, while children still need them."""

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def past(self) -> int:
        """Tokens before the branch's own."""
        return 0 if self.parent is None else self.parent.past + len(self.parent.tokens)


def last_residuals(
    model: LanguageModel,
    sequences: Sequence[list[int]],
    *,
    share_prefixes: bool = True,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    edits: Mapping[int, ResidualEdit] | None = None,
    edited: Sequence[range] | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "sequence d_model"]]]:
    """(sequence numbers, residual after the last layer at each one's last token), a batch at a time, in any order.

    Args:
        share_prefixes: False passes every sequence whole; the result is the same up to rounding.
        tokens_per_batch: padded tokens per pass, those attended to included.
        edits: by layer, what replaces residuals (a steering).
        edited: which tokens of each sequence; None: its last one.
    """
    if edits:
        spans = edited if edited is not None else [range(len(ids) - 1, len(ids)) for ids in sequences]
        sequences = [
            [t + MARKED * (k in span) for k, t in enumerate(ids)] for ids, span in zip(sequences, spans, strict=True)
        ]
    branches = grow(sequences) if share_prefixes else [Branch(ids, None, [i]) for i, ids in enumerate(sequences)]
    for depth in range(max((b.depth for b in branches), default=-1) + 1):
        level = [b for b in branches if b.depth == depth]
        for chosen in _batches(level, tokens_per_batch):
            residual = _one_pass(model, chosen, edits or {})
            ending = [(row, end) for row, branch in enumerate(chosen) for end in branch.ends]
            if ending:
                yield [end for _, end in ending], residual[[row for row, _ in ending]]
        for branch in level:
            if branch.parent is not None:
                branch.parent.cache = []


def grow(sequences: Sequence[list[int]]) -> list[Branch]:
    """The branches of the tree of `sequences`, parents before children."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    branches: list[Branch] = []

    def split(members: list[int], parent: Branch | None, start: int) -> None:
        first, last = sequences[members[0]], sequences[members[-1]]
        # Members are sorted: what the outer two share, all share.
        common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        if len(members) == 1 or (common - start) * (len(members) - 1) >= LEAST_SHARED:
            parent = _attach(branches, sequences[members[0]][start:common], parent)
            start = common
        ending = [i for i in members if len(sequences[i]) == common]
        if start == common and parent is not None:
            parent.ends += ending
        else:
            for i in ending:
                _attach(branches, sequences[i][start:], parent).ends.append(i)
        groups: dict[int, list[int]] = {}
        for i in members:
            if len(sequences[i]) > common:
                groups.setdefault(sequences[i][common], []).append(i)
        for group in groups.values():
            split(group, parent, start)

    if order:
        split(order, None, 0)
    return branches


def _attach(branches: list[Branch], tokens: list[int], parent: Branch | None) -> Branch:
    branch = Branch(tokens, parent)
    branches.append(branch)
    if parent is not None:
        parent.children.append(branch)
    return branch


def _batches(level: Sequence[Branch], tokens_per_batch: int) -> Iterator[list[Branch]]:
    """Branches of like length together, longest first."""
    batch: list[Branch] = []
    past = own = 0
    for branch in sorted(level, key=lambda b: (-len(b.tokens), -b.past)):
        past, own = max(past, branch.past), own + len(branch.tokens)
        if batch:
            width = len(batch[0].tokens)
            full = (past + width) * (len(batch) + 1) > tokens_per_batch
            padded = width * (len(batch) + 1) - own
            if full or padded > max(PADDING * own, tokens_per_batch / 32):
                yield batch
                batch, past, own = [], branch.past, len(branch.tokens)
        batch.append(branch)
    if batch:
        yield batch


@torch.no_grad()
def _one_pass(
    model: LanguageModel, branches: Sequence[Branch], edits: Mapping[int, ResidualEdit]
) -> Float[Tensor, "branch d_model"]:
    """Residual after the last layer at every branch's last token; keeps keys and values where children need them.

    What comes before is padded on its left and the branch's own tokens on their right, so that real tokens are
    neighbours, as layers with a sliding window need.
    """
    device = model.device
    own = torch.tensor([len(b.tokens) for b in branches], device=device)
    past = torch.tensor([b.past for b in branches], device=device)
    width, before = int(own.max()), int(past.max())
    pad = model.tokenizer.pad_token_id
    marked = torch.tensor([b.tokens + [pad] * (width - len(b.tokens)) for b in branches], device=device)
    ids, edited = marked % MARKED, marked >= MARKED
    step = torch.arange(width, device=device)
    mask = torch.cat([torch.arange(before, device=device) >= before - past[:, None], step < own[:, None]], dim=1)
    store = DynamicCache()
    store.layers = [ContinuedLayer(branches, layer, before) for layer in range(model.n_layers)]

    def where_marked(edit: ResidualEdit) -> Edit:
        def change(x: Tensor) -> Tensor:
            places = edited.to(x.device)
            return x.index_put(places.nonzero(as_tuple=True), edit(x[places]))

        return change

    last = model.n_layers - 1
    hooks = {layer: where_marked(edit) for layer, edit in edits.items()}
    with model.prompted(None), model.edited(hooks), model.recorded([last]) as residuals:
        model.run(Tokens(ids, mask), cache=store)
    return residuals[last][torch.arange(len(branches), device=device), own - 1]


class ContinuedLayer(DynamicLayer):
    """One layer's keys and values of a batch: those of each branch's parent, then its own.

    They are put together when the layer runs and only branches with children keep theirs, so that a pass holds one
    layer's at a time.
    """

    def __init__(self, branches: Sequence[Branch], layer: int, before: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.branches, self.layer, self.before = branches, layer, before

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        joined = tuple(self._joined(new, which) for which, new in enumerate((key_states, value_states)))
        for row, branch in enumerate(self.branches):
            if branch.children:
                real = slice(self.before - branch.past, self.before + len(branch.tokens))
                branch.cache.append((joined[0][row, :, real].clone(), joined[1][row, :, real].clone()))
        return joined[0], joined[1]

    def _joined(
        self, new: Float[Tensor, "branch kv_head token d_head"], which: int
    ) -> Float[Tensor, "branch kv_head before_and_token d_head"]:
        if not self.before:
            return new
        n, heads, width, d_head = new.shape
        joined = new.new_zeros(n, heads, self.before + width, d_head)
        joined[:, :, self.before :] = new
        for row, branch in enumerate(self.branches):
            if branch.parent is not None:
                joined[row, :, self.before - branch.past : self.before] = branch.parent.cache[self.layer][which]
        return joined

    def get_seq_length(self) -> int:
        return self.before


class NextTokens(NamedTuple):
    """Log-probabilities of each sequence's wanted next tokens, and its likeliest next token."""

    wanted: list[Float[Tensor, " _"]]
    likeliest: Int[Tensor, " sequence"]


def next_tokens(
    model: LanguageModel,
    sequences: Sequence[list[int]],
    wanted: Sequence[Int[Tensor, " _"]],
    *,
    share_prefixes: bool = True,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    edits: Mapping[int, ResidualEdit] | None = None,
    edited: Sequence[range] | None = None,
) -> NextTokens:
    """What comes next after each sequence.

    Args:
        wanted: token ids per sequence.
        share_prefixes, tokens_per_batch, edits, edited: see `last_residuals`.
    """
    of_wanted: list[Tensor] = [torch.empty(0)] * len(sequences)
    likeliest = torch.empty(len(sequences), dtype=torch.long)
    rows = max(1, 2**21 // len(model.head_weight))  # a slice of full logits stays below 8 MB, which is fastest
    residuals = last_residuals(
        model, sequences, share_prefixes=share_prefixes, tokens_per_batch=tokens_per_batch, edits=edits, edited=edited
    )
    for numbers, residual in residuals:
        for start in range(0, len(numbers), rows):
            members = numbers[start : start + rows]
            with torch.no_grad():
                log_probabilities = model.unembed(residual[start : start + rows]).float().log_softmax(-1)
            likeliest[members] = log_probabilities.argmax(-1).cpu()
            for row, number in enumerate(members):
                of_wanted[number] = log_probabilities[row, wanted[number].to(model.device)].cpu()
    return NextTokens(of_wanted, likeliest)
