"""Words of a list scored whole, all in one pass over the prompt's keys and values.

The words form a tree of tokens, so that what begins alike is computed once. The tree is laid out in one row after the
prompt; every token sees the prompt and its own ancestors, at the position it would have after the prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.errors import UserError
from interp.models.caching import cache_name
from interp.models.language_model import LanguageModel, Tokens

ENDINGS = (",", ".", ";", "\n", "]", "'", "<eos>")
"""What may follow a whole word; the probabilities of these next tokens are added up."""
MOST_NODES = 1024
"""Tree tokens in one pass."""
ROWS_OF_LOGITS = 256
PROBED = 16
"""Words whose tokens say whether two prompts end alike."""


@dataclass(frozen=True)
class WordTree:
    """Words as paths of tokens from the end of the prompt.

    Attributes:
        tokens: of each node.
        parent: of each node, -1 where that is the prompt; parents come before their children.
        depth: of each node, 0 for first tokens.
        word: of each word, its last node.
    """

    tokens: Int[Tensor, " node"]
    parent: Int[Tensor, " node"]
    depth: Int[Tensor, " node"]
    word: Int[Tensor, " word"]

    @property
    def sees(self) -> Bool[Tensor, "node node"]:
        """Each node's ancestors and itself."""
        n = len(self.tokens)
        seen = torch.eye(n, dtype=torch.bool)
        for node, parent in enumerate(self.parent.tolist()):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def word_trees(
    model: LanguageModel, words: Sequence[str], *, prompt: str = "", most_nodes: int = MOST_NODES
) -> list[WordTree]:
    """Trees that hold the words in order, each of at most `most_nodes` tokens.

    Args:
        words: as they continue the prompt, leading space included.
        prompt: as the model sees it; which tokens a word has depends on its end.

    Raises:
        UserError: a word without tokens.
    """
    trees, paths = [], [found.ids for found in model.tokenization.continuations(prompt, words)]
    for word, path in zip(words, paths, strict=True):
        if not path:
            raise UserError(f"{word!r} has no tokens for {model.name}; take it out of the list of words.")
    start = 0
    while start < len(paths):
        nodes: dict[tuple[int, ...], int] = {}
        ends: list[int] = []
        for path in paths[start:]:
            new = [path[: k + 1] for k in range(len(path)) if path[: k + 1] not in nodes]
            if ends and len(nodes) + len(new) > most_nodes:
                break
            for prefix in new:
                nodes[prefix] = len(nodes)
            ends.append(nodes[path])
        start += len(ends)
        trees.append(
            WordTree(
                tokens=torch.tensor([prefix[-1] for prefix in nodes]),
                parent=torch.tensor([nodes.get(prefix[:-1], -1) for prefix in nodes]),
                depth=torch.tensor([len(prefix) - 1 for prefix in nodes]),
                word=torch.tensor(ends),
            )
        )
    return trees


class Trees:
    """Trees of the same words behind prompts that end alike, made once for each end."""

    def __init__(self, model: LanguageModel, words: Sequence[str]) -> None:
        self.model, self.words = model, words
        self._known: dict[tuple[tuple[int, ...], ...], list[WordTree]] = {}

    def behind(self, prompt: str, lead: str) -> list[WordTree]:
        """The trees of words that follow `prompt` and `lead` (a space, or nothing)."""
        words = [lead + word for word in self.words]
        key = tuple(found.ids for found in self.model.tokenization.continuations(prompt, words[:PROBED]))
        if key not in self._known:
            self._known[key] = word_trees(self.model, words, prompt=prompt)
        return self._known[key]


class Continuation:
    """A prompt whose keys and values are kept, to score words after it and to go on with one of them.

    Args:
        text: the prompt as the model sees it; what follows is tokenised behind it.
    """

    def __init__(self, model: LanguageModel, tokens: Tokens, text: str = "") -> None:
        if len(tokens.ids) != 1:
            raise ValueError("one prompt at a time")
        self.model, self.cache, self.text = model, DynamicCache(), text
        self.length = 0
        self.prompt = int(tokens.mask.sum())
        self._append(tokens.ids[tokens.mask][None])

    def go_on(self, text: str) -> None:
        """Adds text after the prompt."""
        (found,) = self.model.tokenization.continuations(self.text, [text])
        self.text += text
        self._append(torch.tensor([found.ids]))

    @torch.no_grad()
    def score(self, trees: Sequence[WordTree], ends: Int[Tensor, " ending"]) -> Float[Tensor, " word"]:
        """Log-probability of each word, ended by one of the tokens `ends`."""
        scores = []
        for tree in trees:
            residual = self._tree_pass(tree)
            edge = torch.empty(len(tree.tokens))
            ended = torch.empty(len(tree.tokens))
            after = _children(tree)
            for rows, logits in self._logits(torch.cat([self.residual[None], residual])):
                log_z = logits.logsumexp(-1)
                for row, line, z in zip(rows, logits, log_z, strict=True):
                    children = after[row]
                    edge[children] = (line[tree.tokens[children].to(line.device)] - z).cpu()
                    if row > 0:
                        ended[row - 1] = (line[ends].logsumexp(-1) - z).cpu()
            path = tree.sees.float() @ edge
            scores.append((path + ended)[tree.word])
        return torch.cat(scores)

    @torch.no_grad()
    def _append(self, ids: Int[Tensor, "1 token"]) -> None:
        n = ids.shape[1]
        at = torch.arange(self.length, self.length + n, device=self.model.device)
        mask = torch.ones(1, self.length + n, dtype=torch.long, device=self.model.device)
        self.residual = self._pass(ids.to(self.model.device), at[None], mask)[-1]
        self.length += n

    def _tree_pass(self, tree: WordTree) -> Float[Tensor, "node d_model"]:
        model = self.model
        at = (self.length + tree.depth).to(model.device)
        prompt_at = torch.arange(self.length, device=model.device)
        seen = torch.cat(
            [torch.ones(len(at), self.length, dtype=torch.bool, device=model.device), tree.sees.to(model.device)], dim=1
        )  # [node, prompt + node]
        apart = at[:, None] - torch.cat([prompt_at, at])
        residual = self._pass(tree.tokens[None].to(model.device), at[None], _masks(model, seen, apart))
        self.cache.crop(-len(tree.tokens))
        return residual

    def _pass(self, ids: Tensor, positions: Tensor, mask: Any) -> Float[Tensor, "token d_model"]:
        """Residuals after the last layer; the cache grows by the tokens."""
        seen: list[Tensor] = []
        looked = self.model.edited({self.model.n_layers - 1: lambda x: seen.append(x[0])})
        with self.model.prompted(self.prompt), looked:
            self.model.backbone(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                **{cache_name(self.model.backbone): self.cache},
                use_cache=True,
            )
        return seen[0]

    def _logits(self, residual: Float[Tensor, "row d_model"]) -> Iterator[tuple[range, Float[Tensor, "row token"]]]:
        for start in range(0, len(residual), ROWS_OF_LOGITS):
            rows = residual[start : start + ROWS_OF_LOGITS]
            yield range(start, start + len(rows)), self.model.unembed(rows).float()


def ending_tokens(model: LanguageModel) -> Int[Tensor, " ending"]:
    """First tokens of everything in `ENDINGS` as it follows a word, and the tokens that end a text."""
    written = [ending for ending in ENDINGS if ending != "<eos>"]
    followed = model.tokenization.continuations("Words: joy", written)
    ids = {*(found.ids[0] for found in followed), *model.end_ids}
    return torch.tensor(sorted(ids), device=model.device)


def _children(tree: WordTree) -> list[Int[Tensor, " child"]]:
    """Nodes after the prompt (first) and after every node."""
    after: list[list[int]] = [[] for _ in range(len(tree.tokens) + 1)]
    for node, parent in enumerate(tree.parent.tolist()):
        after[parent + 1].append(node)
    return [torch.tensor(children, dtype=torch.long) for children in after]


def _masks(model: LanguageModel, seen: Bool[Tensor, "query key"], apart: Int[Tensor, "query key"]) -> Any:
    """What the family takes as a ready-made mask: one for all layers, or one per kind of layer."""
    window = getattr(model.backbone.config, "sliding_window", None)
    near = model.attention_mask((seen if window is None else seen & (apart < window))[None, None])
    if not model.architecture.masks_by_type:
        return near
    return {"full_attention": model.attention_mask(seen[None, None]), "sliding_attention": near}
