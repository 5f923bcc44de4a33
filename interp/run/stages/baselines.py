"""Stage `baselines`: the ablations that the field uses, on the same examples, layer by layer."""

import pandas as pd
import torch

from interp.analysis.baselines import (
    Ablation,
    Directions,
    ModuleSums,
    ablation_effects,
    baseline_effects,
    emotion_directions,
    module_means,
    module_sums,
)
from interp.analysis.labelled import LabelledExamples
from interp.engine.capture import Captured
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage


@stage(
    "baselines",
    reads=("examples.parquet", "activations"),
    writes=("baselines.parquet", "units/baselines"),
    fields=("resamples", "seed"),
)
def run(session: Session) -> None:
    """Writes `baselines.parquet`: per layer, method and emotion, the mean effect on the gold answer, in nats.

    Directions come from the discover examples and are removed from the fit examples, as are the modules' outputs.
    """
    examples = session.labelled(session.role("fit"))
    table = _table(session, examples) if len(examples) else pd.DataFrame()
    tables.write(session.folder / "baselines.parquet", table)
    session.units("baselines").clear()


def _table(session: Session, examples: LabelledExamples) -> pd.DataFrame:
    discover, model = session.labelled(session.role("discover")), session.model
    directions: dict[Ablation, Directions] = {}

    def of_layer(layer: int) -> dict[str, Directions]:
        residuals = session.residuals(layer)[discover.rows].float().numpy()
        seed = session.seed(f"random direction {layer}")
        return emotion_directions(residuals, discover.gold, len(session.labels), seed)

    def sums(captured: Captured, _: list[int]) -> ModuleSums:
        return module_sums(model, captured)

    for layer, by_method in enumerate(session.each_layer(of_layer, range(model.n_layers), "directions")):
        directions |= {Ablation(layer, method): found for method, found in by_method.items()}
    summed = session.over(session.texts(examples.rows), sums, "module means")
    means = module_means(model, (part for _, part in summed))
    gold = torch.from_numpy(examples.gold)

    def effects(captured: Captured, places: list[int]) -> dict[str, torch.Tensor]:
        found = ablation_effects(model, captured, gold[places], directions, means)
        return {f"{ablation.layer}/{ablation.method}": falls for ablation, falls in found.items()}

    falls = {}
    for name, values in session.collect(examples.rows, effects, "baselines", units=session.units("baselines")).items():
        number, method = name.split("/")
        falls[Ablation(int(number), method)] = values.double().numpy()
    return baseline_effects(falls, examples)
