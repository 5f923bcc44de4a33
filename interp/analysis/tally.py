"""What is kept of a feature over a stream of texts: counts, sums, its strongest texts, and some drawn at random.

Memory does not grow with the texts, and nothing depends on where a stream was cut into parts, but for rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

Array = np.ndarray
NOBODY = -1
"""In the place of a row, where a feature has fired on fewer texts than are kept."""


@dataclass
class FeatureTally:
    """Features of one layer over the texts seen so far.

    The texts drawn at random are those with the smallest numbers among all on which the feature fires, where every text
    has a random number of its own: a uniform draw without replacement (Knuth 1981, reservoir sampling; by random keys
    Efraimidis and Spirakis 2006).

    Attributes:
        n: texts seen, by label; those without a label count in the last place.
        fired, total: [label, feature], on how many texts it fires, and the sum of its activations.
        squares: [feature], sum of squared activations.
        top_value, top_row: [kept, feature], the largest activations and the numbers of their texts, largest first.
        drawn_key, drawn_value, drawn_row: [kept, feature], the same of texts drawn at random.
    """

    n: Int[Tensor, " label"]
    fired: Int[Tensor, "label feature"]
    total: Float[Tensor, "label feature"]
    squares: Float[Tensor, " feature"]
    top_value: Float[Tensor, "kept feature"]
    top_row: Int[Tensor, "kept feature"]
    drawn_key: Float[Tensor, "kept feature"]
    drawn_value: Float[Tensor, "kept feature"]
    drawn_row: Int[Tensor, "kept feature"]

    @classmethod
    def empty(cls, n_labels: int, n_features: int, *, kept: int) -> "FeatureTally":
        """Before the first text.

        Args:
            n_labels: without the place for texts that have none.
            kept: texts that are kept of each feature, strongest and drawn alike.
        """
        by_label, by_kept = (n_labels + 1, n_features), (kept, n_features)
        return cls(
            n=torch.zeros(n_labels + 1, dtype=torch.int64),
            fired=torch.zeros(by_label, dtype=torch.int64),
            total=torch.zeros(by_label, dtype=torch.float64),
            squares=torch.zeros(n_features, dtype=torch.float64),
            top_value=torch.zeros(by_kept),
            top_row=torch.full(by_kept, NOBODY),
            drawn_key=torch.full(by_kept, torch.inf, dtype=torch.float64),
            drawn_value=torch.zeros(by_kept),
            drawn_row=torch.full(by_kept, NOBODY),
        )

    def add(
        self,
        acts: Float[Tensor, "text feature"],
        labels: Int[Tensor, " text"],
        rows: Int[Tensor, " text"],
        keys: Float[Tensor, " text"],
    ) -> None:
        """Counts some texts.

        Args:
            labels: -1 where a text has none.
            rows: their numbers in the stream.
            keys: their random numbers.
        """
        acts = acts.float().cpu()
        member = torch.nn.functional.one_hot(labels % len(self.n), len(self.n)).double()
        fires = acts > 0
        self.n += member.sum(0).long()
        self.fired += (member.T @ fires.double()).long()
        self.total += member.T @ acts.double()
        self.squares += acts.double().square().sum(0)
        everywhere = rows[:, None].expand(-1, acts.shape[1])
        kept = len(self.top_value)
        values, order = torch.cat([self.top_value, acts]).sort(dim=0, descending=True, stable=True)
        self.top_value = values[:kept].clone()
        self.top_row = torch.cat([self.top_row, everywhere]).gather(0, order[:kept])
        self.top_row[self.top_value <= 0] = NOBODY
        own = torch.where(fires, keys.double()[:, None], torch.inf)
        found, order = torch.cat([self.drawn_key, own]).sort(dim=0, stable=True)
        self.drawn_key, order = found[:kept].clone(), order[:kept]
        self.drawn_value = torch.cat([self.drawn_value, acts]).gather(0, order)
        self.drawn_row = torch.cat([self.drawn_row, everywhere]).gather(0, order)
        self.drawn_row[self.drawn_key == torch.inf] = NOBODY

    def arrays(self) -> dict[str, Array]:
        """All of it, to be kept."""
        return {one.name: getattr(self, one.name).numpy() for one in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> "FeatureTally":
        """What `arrays` gave."""
        return cls(**{one.name: torch.from_numpy(arrays[one.name]) for one in fields(cls)})

    def features(self, labels: Sequence[str]) -> pd.DataFrame:
        """A row for each feature that fired, with columns feature, n, fired, mean, sd, max, and for every label
        `rate_LABEL` (share of its texts on which the feature fires), then `mean_LABEL` (mean activation on them)."""
        fired, n = self.fired.sum(0), int(self.n.sum())
        mean = self.total.sum(0) / max(n, 1)
        variance = (self.squares / max(n, 1) - mean.square()).clamp_min(0)
        found = {
            "feature": np.arange(len(fired)),
            "n": n,
            "fired": fired.numpy(),
            "mean": mean.numpy(),
            "sd": variance.sqrt().numpy(),
            "max": self.top_value[0].double().numpy(),
        }
        of_label = [int(n) or np.nan for n in self.n]
        found |= {f"rate_{label}": self.fired[i].numpy() / of_label[i] for i, label in enumerate(labels)}
        found |= {f"mean_{label}": self.total[i].numpy() / of_label[i] for i, label in enumerate(labels)}
        return pd.DataFrame(found)[fired.numpy() > 0].reset_index(drop=True)

    def texts(self) -> pd.DataFrame:
        """The texts that are kept: columns feature, kind (`top` or `random`), rank, row, activation."""
        parts = []
        for kind, rows, values in (
            ("top", self.top_row, self.top_value),
            ("random", self.drawn_row, self.drawn_value),
        ):
            feature, rank = (rows.T >= 0).nonzero(as_tuple=True)
            of_kind = {"rank": rank, "row": rows[rank, feature], "activation": values[rank, feature].double()}
            columns = {"feature": feature, **of_kind}
            parts.append(pd.DataFrame({name: x.numpy() for name, x in columns.items()}).assign(kind=kind))
        table = pd.concat(parts, ignore_index=True)[["feature", "kind", "rank", "row", "activation"]]
        return table.sort_values(["feature", "kind", "rank"], ascending=[True, False, True], ignore_index=True)
