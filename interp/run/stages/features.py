"""Stage `features`: sparse features of every layer."""

from functools import partial

from interp.analysis.features import encode_layer, save_features
from interp.run.session import Session
from interp.run.stage import stage


@stage(
    "features",
    reads=("activations",),
    saes=True,
    writes=("features",),
    sources=("sae_identity",),
    cost=lambda work: 2 * work.examples * work.layers * work.speeds.per_encode,
)
def run(session: Session) -> None:
    """Writes `features/layer_XX.npz`, a layer at a time."""

    def write(layer: int) -> None:
        path = session.folder / f"features/layer_{layer:02d}.npz"
        if not path.exists():
            save_features(path, encode_layer(session.saes, layer, partial(session.residual_batches, layer)))

    for _ in session.each_layer(write, session.saes.layers, "features"):
        pass
