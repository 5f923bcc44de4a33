"""Stage `ratings`: which layer knows what texts are rated for, by which features, and what it does to the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array

from interp.analysis.effect_rows import causal_features
from interp.analysis.human import agreement, human_associations, paired
from interp.analysis.positions import RatingReader, emotion_positions, feature_positions
from interp.analysis.rating_features import RatingFeatures, feature_tests, strongest_features
from interp.analysis.ratings import LayerProbes, RatedExamples, baseline_probes, known_ratings, layer_probes
from interp.analysis.rules import Q_LEVEL
from interp.analysis.surgery import (
    CONTROL_DOSES,
    CONTROLS,
    DIRECTION,
    DOSES,
    FEATURES,
    RANDOM,
    SINGLE,
    WITHIN,
    Surgery,
    direction_edit,
    dose_table,
    feature_edits,
    random_slopes,
    single_effects,
    slopes,
    slopes_of_answers,
)
from interp.analysis.together import typical_activations, union
from interp.engine import removal
from interp.engine.capture import Captured
from interp.engine.suffix import ResidualEdit
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.texts.emotions import named_emotion
from interp.texts.examples import Example
from interp.texts.rated import RatedTexts

TABLES = (
    "ratings",
    "rating_probes",
    "rating_features",
    "rating_norms",
    "rating_effects",
    "rating_agreement",
    "rating_doses",
    "rating_positions",
)
FEATURES_KEPT = 3
"""Features per layer and rating that are in the table though none of them goes with the rating beyond chance."""


@stage(
    "ratings",
    reads=("examples.parquet", "activations", "features", "effects.parquet"),
    writes=(
        "ratings.parquet",
        "rating_probes.parquet",
        "rating_features.parquet",
        "rating_norms.parquet",
        "rating_effects.parquet",
        "rating_agreement.parquet",
        "rating_doses.parquet",
        "rating_positions.parquet",
        "rating_directions.npz",
        "units/ratings",
    ),
    fields=("resamples", "seed"),
    sources=("rated_texts",),
    cost=lambda work: (
        sum(c.limit or 1000 for c in work.config.corpora.ratings)
        * (work.speeds.per_prompt + work.layers * work.speeds.per_encode + 200 * work.speeds.per_row)
    ),
)
def run(session: Session) -> None:
    """Writes `ratings.parquet`, the tables `rating_*.parquet` and `rating_directions.npz`; empty without ratings."""
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    directions: dict[str, np.ndarray] = {}
    for number, rated in enumerate(session.rated):
        measured = _Measured(session, rated)
        for name, table in measured.tables().items():
            found[name].append(table.assign(corpus=rated.name) if len(table) else table)
        directions |= {f"{number}/{name}": values.astype(np.float32) for name, values in measured.directions.items()}
    for name, parts in found.items():
        filled = [part for part in parts if len(part)]
        table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
        tables.write(session.folder / f"{name}.parquet", table)
    tables.write(session.folder / "rating_directions.npz", directions)
    session.units("ratings").clear()


def _rated(texts: Sequence[Example], scales: Sequence[str], session: Session, *, named: bool = False) -> RatedExamples:
    """Texts as the analyses see them.

    Args:
        named: tell emotions by the words that name them.
    """
    values = np.array([[e.ratings[scale] for scale in scales] for e in texts], dtype=float)
    kinds = [named_emotion(e.text, session.labels) if named else e.gold for e in texts]
    groups = np.array([e.group for e in texts], dtype=object)
    known = (session.config.resamples, session.config.seed)
    return RatedExamples(scales, values, groups, np.array(kinds, dtype=object), *known)


@dataclass
class _Measured:
    """One rated corpus, measured part by part."""

    session: Session
    texts: RatedTexts

    @cached_property
    def rated(self) -> RatedExamples:
        return _rated(self.texts.examples, self.texts.scales, self.session)

    @cached_property
    def words(self) -> list[str]:
        return [e.text for e in self.texts.examples]

    @cached_property
    def residuals(self) -> torch.Tensor:
        """[text, layer, d_model]."""

        def read(captured: Captured, _: list[int]) -> dict[str, torch.Tensor]:
            return {"residuals": captured.residuals.transpose(0, 1)}

        shown, units = f"ratings {self.texts.name}", self.session.units("ratings")
        return self.session.collect(self.words, read, shown, units=units)["residuals"]

    def layer(self, layer: int) -> np.ndarray:
        return self.residuals[:, layer].float().numpy()

    @cached_property
    def acts(self) -> dict[int, csr_array]:
        """By layer with an SAE, [text, d_sae]."""
        saes, found = self.session.saes, {}
        for layer in self.session.progress(saes.layers, f"features of {self.texts.name}", "layer"):
            x = self.residuals[:, layer].to(saes.device(layer)).float()
            found[layer] = csr_array(saes.encode(layer, x).float().cpu().numpy())
        return found

    @cached_property
    def probes(self) -> tuple[pd.DataFrame, np.ndarray]:
        """Of all layers: rows of probes, and [layer, shuffle, scale], R squared of shuffled ratings."""
        rated, residuals, acts = self.rated, self.residuals, self.acts

        def of_layer(layer: int) -> LayerProbes:
            return layer_probes(rated, residuals[:, layer].float().numpy(), acts.get(layer))

        layers = range(self.session.model.n_layers)
        found = list(self.session.each_layer(of_layer, layers, f"probes of {self.texts.name}"))
        rows = [one.rows.assign(layer=layer) for layer, one in enumerate(found)]
        return pd.concat(rows, ignore_index=True), np.stack([one.shuffled for one in found])

    @cached_property
    def tests(self) -> tuple[pd.DataFrame, dict[str, int]]:
        """Of all layers: features with ratings, and how many go with each rating by chance."""
        parts, chance = [], dict.fromkeys(self.texts.scales, 0)
        for layer, acts in self.acts.items():
            norms = self.session.saes.directions(layer).float().norm(dim=-1).cpu().numpy()
            found = feature_tests(acts, norms, self.rated)
            parts.append(found.rows.assign(layer=layer))
            chance = {scale: n + found.chance[scale] for scale, n in chance.items()}
        return pd.concat(parts, ignore_index=True), chance

    @cached_property
    def best(self) -> pd.DataFrame:
        """Per rating, the layer that reads it best."""
        return known_ratings(*self.probes, self.texts.scales)

    @cached_property
    def sets(self) -> list[RatingFeatures]:
        return strongest_features(self.tests[0], self.texts.scales, self.session.seed("rating controls"))

    @cached_property
    def _placed(self) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        """Directions of the ratings, and where emotions and causal features lie on them; a layer at a time."""
        session, directions, parts = self.session, dict[str, np.ndarray](), []
        examples = session.labelled(session.role("discover"))
        causal = causal_features(tables.read(session.folder / "effects.parquet"))
        for layer in session.progress(range(session.model.n_layers), f"directions of {self.texts.name}", "layer"):
            residuals = self.layer(layer)
            reader = RatingReader.fitted(self.rated, residuals)
            directions |= {f"slopes/{layer}": slopes(self.rated, residuals), f"weights/{layer}": reader.weights}
            if self.rated.has_kinds:
                directions[f"within/{layer}"] = slopes(self.rated, residuals, within=True)
            of_emotions = emotion_positions(reader, session.residuals(layer)[examples.rows].float().numpy(), examples)
            parts.append(of_emotions.assign(layer=layer, feature=None))
            own = causal[causal["layer"] == layer]
            if chosen := sorted({int(f) for f in own["feature"]}):
                typical = typical_activations(session.features(layer).acts[examples.rows][:, chosen].toarray())
                added = typical[:, None] * session.saes.directions(layer, chosen).float().cpu().numpy()
                found = feature_positions(reader, added, chosen, session.seed(f"positions {layer}"))
                parts.append(found.merge(own[["feature", "emotion"]], on="feature").assign(layer=layer))
        table = pd.concat([part for part in parts if len(part)], ignore_index=True)
        return directions, table.assign(feature=table["feature"].astype(object).where(table["feature"].notna(), None))

    @property
    def directions(self) -> dict[str, np.ndarray]:
        """By kind and layer, [scale, d_model]: slopes, slopes within emotions, and weights of probes."""
        return self._placed[0]

    @cached_property
    def norms(self) -> pd.DataFrame:
        """How people's ratings go with emotions: those of the texts, or those that texts name."""
        labelled = any(e.gold in self.session.labels for e in self.texts.whole)
        whole = _rated(self.texts.whole, self.texts.scales, self.session, named=not labelled)
        found = human_associations(whole, self.session.labels)
        return found.assign(told_by="label" if labelled else "word") if len(found) else found

    # ------------------------------------------------------------------------------- edits

    @cached_property
    def surgeries(self) -> dict[Surgery, Mapping[int, ResidualEdit]]:
        edits: dict[Surgery, Mapping[int, ResidualEdit]] = {}
        saes, typical = self.session.saes.restricted(self.features), self.typical
        for k, (scale, features) in enumerate(zip(self.texts.scales, self.sets, strict=True)):
            for method, doses in ((FEATURES, DOSES), (CONTROLS, CONTROL_DOSES)) if len(features) else ():
                control = method == CONTROLS
                for dose in doses:
                    edit = feature_edits(saes, features, typical, dose, control=control)
                    edits |= {Surgery(scale, method, dose): edit} if edit else {}
            layer = int(self.best.set_index("rating").loc[scale, "layer"])
            centre, slope = self.layer(layer).mean(0), self.directions[f"slopes/{layer}"]
            random = random_slopes(slope, self.session.seed(f"random slopes {layer}"))
            known: list[tuple[str, np.ndarray, tuple[float, ...]]] = [
                (DIRECTION, slope, DOSES),
                (RANDOM, random, CONTROL_DOSES),
            ]
            if self.rated.has_kinds:
                known.insert(1, (WITHIN, self.directions[f"within/{layer}"], DOSES))
            for method, vectors, dosed in known:
                for dose in dosed:
                    edits[Surgery(scale, method, dose)] = {layer: direction_edit(vectors[k], centre, dose)}
        return edits

    @cached_property
    def features(self) -> dict[int, list[int]]:
        """By layer, those of all ratings, and their controls."""
        found = (
            {int(layer): list(map(int, own["feature"])) for layer, own in s.table.groupby("layer")} for s in self.sets
        )
        return union(found)

    @cached_property
    def typical(self) -> dict[tuple[int, int], float]:
        return {
            (layer, feature): float(value)
            for layer, features in self.features.items()
            for feature, value in zip(
                features, typical_activations(self.acts[layer][:, features].toarray()), strict=True
            )
        }

    @cached_property
    def logits(self) -> dict[Any, np.ndarray]:
        """Answers as they are (None), under each surgery, and without each feature alone, by layer and feature."""
        single = {
            (int(layer), int(feature)): removal(
                self.session.model,
                self.session.saes.restricted({int(layer): [int(feature)]}),
                {int(layer): [int(feature)]},
            )
            for s in self.sets
            for layer, feature in s.table.loc[~s.table["control"], ["layer", "feature"]].itertuples(index=False)
        }
        edits: dict[Any, Any] = {None: {}, **self.surgeries, **single}
        shown, units = f"surgery {self.texts.name}", self.session.units("ratings")
        return self.session.logits_under(self.words, edits, shown, units=units)

    @cached_property
    def effects(self) -> dict[tuple[str, str], np.ndarray]:
        """By rating and method, [text, answer]: how the answer moves with the rating."""
        found = slopes_of_answers({key: value for key, value in self.logits.items() if isinstance(key, Surgery)})
        alone = {s.rating: single_effects(s, self.logits) for s in self.sets if len(s)}
        return found | {(rating, SINGLE): values for rating, values in alone.items()}

    # ------------------------------------------------------------------------------- tables

    def tables(self) -> dict[str, pd.DataFrame]:
        """By name, without the column corpus."""
        labels = self.session.labels
        surgeries = {key: value for key, value in self.logits.items() if isinstance(key, Surgery)}
        pairs = paired(self.effects, self.norms, self.rated, labels)
        known = list(self.best.loc[self.best["known"], "rating"])
        return {
            "ratings": self._summary(),
            "rating_probes": self._probes(),
            "rating_features": self._features(),
            "rating_norms": self.norms,
            "rating_effects": pairs,
            "rating_agreement": agreement(self.effects, pairs, self.rated, labels, known),
            "rating_doses": dose_table(surgeries, self.logits[None], self.rated, labels),
            "rating_positions": self._placed[1],
        }

    def _probes(self) -> pd.DataFrame:
        layers = self.probes[0].assign(layer=self.probes[0]["layer"].astype(object))
        whole = _rated(self.texts.whole, self.texts.scales, self.session)
        without = baseline_probes(self.rated, self.words, whole, [e.text for e in self.texts.whole])
        return pd.concat([layers, without.assign(layer=None)], ignore_index=True)

    def _summary(self) -> pd.DataFrame:
        tests, chance = self.tests
        found = tests[tests["q"] < Q_LEVEL].groupby("rating").size()
        return self.best.assign(
            mean=self.rated.values.mean(0),
            deviation=self.rated.values.std(0),
            n_groups=len(np.unique(self.rated.groups)),
            n_features=[int(found.get(scale, 0)) for scale in self.texts.scales],
            n_features_shuffled=[chance[scale] for scale in self.texts.scales],
        )

    def _features(self) -> pd.DataFrame:
        """Those beyond chance, and the first of every layer and rating."""
        tests = self.tests[0]
        tests = tests.loc[tests["rho"].abs().sort_values(ascending=False, kind="stable").index]
        first = tests.groupby(["rating", "layer"]).cumcount() < FEATURES_KEPT
        chosen = {
            (s.rating, int(layer), int(feature))
            for s in self.sets
            for layer, feature in s.table.loc[~s.table["control"], ["layer", "feature"]].itertuples(index=False)
        }
        kept = tests[(tests["q"] < Q_LEVEL) | first].drop(columns="strength")
        keys = zip(kept["rating"], kept["layer"], kept["feature"], strict=True)
        kept = kept.assign(operated=[(r, int(k), int(f)) in chosen for r, k, f in keys])
        order = {scale: i for i, scale in enumerate(self.texts.scales)}
        return kept.sort_values(
            ["rating", "layer", "feature"], key=lambda c: c.map(order) if c.name == "rating" else c, ignore_index=True
        )
