"""Stage `attribution`: a first-order guess of what every feature does, which proposes what is traced."""

import numpy as np
import torch

from interp.engine import answer_gradients, mean_attribution
from interp.engine.capture import Captured
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage


@stage(
    "attribution",
    reads=("examples.parquet", "features"),
    writes=("attribution.npz",),
    fields=("tracing.examples",),
    cost=lambda work: work.discover * 2 * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `attribution.npz`: per layer [d_sae, emotion], mean attribution over that emotion's discover examples."""
    rows = session.traced_rows()
    gold = torch.from_numpy(session.gold(rows))
    model, saes = session.model, session.saes

    def gradients(captured: Captured, places: list[int]) -> dict[str, torch.Tensor]:
        of_layers = answer_gradients(model, captured, gold[places].to(model.device))[saes.layers]
        return {"gradients": of_layers.transpose(0, 1)}

    found = session.collect(rows, gradients, "attribution").get("gradients")
    if found is None:  # nothing is traced
        found = torch.zeros(0, len(saes.layers), model.d_model)
    of_layers = dict(zip(saes.layers, found.unbind(1), strict=True))

    def of_layer(layer: int) -> np.ndarray:
        acts, directions = session.features(layer).acts[rows], saes.directions(layer)
        return mean_attribution(acts, of_layers[layer], directions, gold, len(session.labels))

    means = zip(saes.layers, session.each_layer(of_layer, saes.layers, "mean attribution"), strict=True)
    tables.write(session.folder / "attribution.npz", {f"layer_{layer:02d}": mean for layer, mean in means})
