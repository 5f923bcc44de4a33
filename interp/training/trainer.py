"""One layer's SAE in training: SAELens' SAE and training step, in residuals scaled to a common size."""

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.training.sae_trainer import SAETrainer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.errors import UserError
from interp.files.folder import writing
from interp.training.config import TrainingConfig

SAELENS_NAMES = {"matryoshka": "matryoshka_batchtopk"}
LOG_EVERY, LOG_LINES = 25, 8
"""Steps between lines of the log, at most; lines of a short one, at least."""
MEDIAN_STEPS = 30
LOWEST_LR = 0.01
"""Where the decay of the learning rate ends, as a share of it."""


@dataclass(frozen=True)
class Scaling:
    """What residuals of a layer look like, from a first look at the text.

    Attributes:
        centre: geometric median; the decoder's bias begins there.
        spread: mean distance from it; residuals are scaled so that it is sqrt(d_model).
        norm: median length; positions far beyond it are left out.
    """

    centre: Float[Tensor, " d_model"]
    spread: float
    norm: float

    @property
    def factor(self) -> float:
        return math.sqrt(len(self.centre)) / self.spread

    @classmethod
    def of(cls, rows: Float[Tensor, "row d_model"], norm_cap: float | None) -> "Scaling":
        rows = rows.float()
        lengths = rows.norm(dim=-1)
        norm = float(lengths.median())
        if norm_cap is not None:
            rows = rows[lengths <= norm_cap * norm]
        centre = geometric_median(rows)
        return cls(centre, float((rows - centre).norm(dim=-1).mean().clamp(min=1e-12)), norm)


@dataclass(frozen=True)
class LogLine:
    """One line of a layer's log; losses are in scaled units, `fvu` of the batch is the same in all units."""

    step: int
    positions: int
    loss: float
    mse: float
    fvu: float
    l0: float
    dead: int
    lr: float


class LayerTrainer:
    """One layer's SAE, its optimiser and its place in the schedule.

    Attributes:
        sae: SAELens' training SAE, in scaled units until `finished` folds the scale into it.
        chunks: how many chunks of activations it has been trained on.
    """

    def __init__(
        self, config: TrainingConfig, layer: int, scaling: Scaling, device: torch.device, *, autocast: bool
    ) -> None:
        self.config, self.layer, self.scaling = config, layer, scaling
        self.chunks = 0
        torch.manual_seed(config.seed * 1009 + layer)
        self.sae: Any = build_sae(config, len(scaling.centre), device)
        with torch.no_grad():
            self.sae.b_dec.copy_(scaling.centre * scaling.factor)
        steps = config.tokens // config.batch
        self.log_every = max(1, min(LOG_EVERY, steps // LOG_LINES))
        decay = int(steps * config.decay)
        options = SAETrainerConfig(
            total_training_samples=steps * config.batch,
            train_batch_size_samples=config.batch,
            lr=config.lr,
            lr_end=config.lr * LOWEST_LR,
            lr_warm_up_steps=int(steps * config.warmup) if int(steps * config.warmup) > 1 else 0,
            lr_decay_steps=decay if decay > 1 else 0,
            dead_feature_window=config.dead_after,
            feature_sampling_window=2**62,
            device=str(device),
            autocast=autocast,
        )
        self.trainer: Any = SAETrainer(options, self.sae, iter(()))
        self.trainer.activation_scaler.scaling_factor = scaling.factor

    def train(self, batches: Iterable[Float[Tensor, "row d_model"]]) -> Iterator[tuple[int, LogLine | None]]:
        """Steps over the batches; yields positions done, and now and then a line of the log.

        Raises:
            UserError: the loss is no number any more.
        """
        for batch in batches:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # schedulers of torch warn about each other
                output = self.trainer.step(batch)
            self.trainer.n_training_steps += 1
            line = None
            if self.trainer.n_training_steps % self.log_every == 0:
                line = self._line(output)
                if not line.loss < float("inf"):
                    raise UserError(
                        f"The SAE of layer {self.layer} diverged at step {line.step} (loss {line.loss});"
                        " use a smaller lr."
                    )
            yield len(batch), line

    def _line(self, output: Any) -> LogLine:
        x, error = output.sae_in.float(), (output.sae_out - output.sae_in).detach().float()
        spread = (x - x.mean(0)).square().sum()
        return LogLine(
            step=self.trainer.n_training_steps,
            positions=self.trainer.n_training_samples,
            loss=float(output.loss.detach()),
            mse=float(output.losses["mse_loss"].detach()),
            fvu=float(error.square().sum() / spread),
            l0=float((output.feature_acts != 0).sum(-1).float().mean()),
            dead=int(self.trainer.dead_neurons.sum()),
            lr=float(self.trainer.optimizer.param_groups[0]["lr"]),
        )

    @property
    def dead(self) -> int:
        return int(self.trainer.dead_neurons.sum())

    # -------------------------------------------------------------------------------- state

    def save(self, path: Path) -> None:
        """Everything that going on needs, as safetensors."""
        trainer = self.trainer
        tensors = {f"sae.{k}": v for k, v in self.sae.state_dict().items()}
        names = [n for n, _ in self.sae.named_parameters()]
        for name, parameter in self.sae.named_parameters():
            for key, value in trainer.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{name}.{key}"] = torch.as_tensor(value)
        tensors["fired"], tensors["frequency"] = trainer.n_forward_passes_since_fired, trainer.act_freq_scores
        plain = {
            "chunks": self.chunks,
            "parameters": names,
            "steps": trainer.n_training_steps,
            "samples": trainer.n_training_samples,
            "active_samples": trainer.n_frac_active_samples,
            "groups": [{k: v for k, v in g.items() if k != "params"} for g in trainer.optimizer.param_groups],
            "schedule": trainer.lr_scheduler.state_dict(),
            "coefficients": {k: s.state_dict() for k, s in trainer.coefficient_schedulers.items()},
        }
        with writing(path) as part:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, {"state": json.dumps(plain)}
            )

    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote."""
        trainer = self.trainer
        with safe_open(path, framework="pt") as file:
            plain = json.loads(file.metadata()["state"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - it is no dict
        self.sae.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("sae.")})
        trainer.optimizer.param_groups[0].update(plain["groups"][0])
        for name, parameter in self.sae.named_parameters():
            own = {k.rsplit(".", 1)[1]: v for k, v in tensors.items() if k.rsplit(".", 1)[0] == f"adam.{name}"}
            if own:
                trainer.optimizer.state[parameter] = {
                    k: v if k == "step" else v.to(parameter.device) for k, v in own.items()
                }
        device = self.sae.W_dec.device
        trainer.n_forward_passes_since_fired = tensors["fired"].to(device)
        trainer.act_freq_scores = tensors["frequency"].to(device)
        trainer.n_training_steps, trainer.n_training_samples = plain["steps"], plain["samples"]
        trainer.n_frac_active_samples = plain["active_samples"]
        trainer.lr_scheduler.load_state_dict(plain["schedule"])
        for name, state in plain["coefficients"].items():
            trainer.coefficient_schedulers[name].load_state_dict(state)
        self.chunks = plain["chunks"]

    # -------------------------------------------------------------------------------- result

    @torch.no_grad()
    def finished(self) -> SAE:
        """The SAE on raw residuals, rows of its decoder of length 1. Training cannot go on afterwards."""
        self.trainer.set_final_sae_metadata()
        self.sae.fold_activation_norm_scaling_factor(self.scaling.factor)
        self.sae.fold_W_dec_norm()
        if hasattr(self.sae.cfg, "rescale_acts_by_decoder_norm"):
            self.sae.cfg.rescale_acts_by_decoder_norm = False
        return self.sae


def build_sae(config: TrainingConfig, d_in: int, device: torch.device) -> Any:
    """SAELens' training SAE of the architecture that is asked for, with fresh weights."""
    name = SAELENS_NAMES.get(config.architecture, config.architecture)
    kind, settings = get_sae_training_class(name)
    warmup = int(config.tokens // config.batch * max(config.warmup, 0.1))
    settings_of: dict[str, dict[str, Any]] = {
        "topk": {"k": config.k},
        "batchtopk": {"k": float(config.k)},
        "matryoshka": {"k": float(config.k), "matryoshka_widths": config.widths},
        "jumprelu": {"l0_coefficient": config.sparsity, "l0_warm_up_steps": warmup},
        "gated": {"l1_coefficient": config.sparsity, "l1_warm_up_steps": warmup},
        "standard": {"l1_coefficient": config.sparsity, "l1_warm_up_steps": warmup},
    }
    own = settings_of[config.architecture]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one nested width only: a BatchTopK SAE, as asked for
        return kind(
            settings(
                d_in=d_in, d_sae=config.d_sae, dtype="float32", device=str(device), normalize_activations="none", **own
            )
        )


def geometric_median(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, " d_model"]:
    """The point with the least sum of distances to all rows (Weiszfeld's iteration)."""
    centre = rows.mean(0)
    for _ in range(MEDIAN_STEPS):
        weight = 1 / (rows - centre).norm(dim=-1, keepdim=True).clamp(min=1e-6)
        centre = (rows * weight).sum(0) / weight.sum()
    return centre
