"""A training from its configuration to a folder of SAEs: capture a chunk, train every layer on it, and again."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

from interp import __version__
from interp.engine.capture import tokens_in_flight
from interp.errors import UserError
from interp.files.folder import read_json, write_json, writing
from interp.models.language_model import LanguageModel
from interp.models.loading import load_model, resolve_device
from interp.reporting import Progress, silent
from interp.training.buffer import ActivationBuffer
from interp.training.config import TrainingConfig, changed_field, load_training_config
from interp.training.measuring import write_training_card
from interp.training.page import write_learning
from interp.training.residuals import Reading, RowReader, Rows
from interp.training.saving import layer_folder, save_sae
from interp.training.texts import Source, held_out_examples, next_pieces, sources, warn_rounds
from interp.training.trainer import LayerTrainer, LogLine, Scaling

CALIBRATION = 8192
"""Positions of the first look, from which scales are taken."""
UNCHANGING = ("out", "threads", "precision", "device")
"""Settings that may differ when a training goes on: they do not change what is learned."""


@dataclass(frozen=True)
class Event:
    """What a training is doing now.

    Attributes:
        stage: `capture` or `train`.
        layer: which SAE; None while text is read.
        done, total: positions, of all chunks, and for `train` of all layers.
        rate: positions per second of this stage.
        line: the newest line of the layer's log.
    """

    stage: str
    layer: int | None
    done: int
    total: int
    rate: float
    line: LogLine | None = None


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        folder: a folder per layer, `card.json`, `card.md`, `learning.html`, `training.json`, `log/`.
        layers: which layers have an SAE.
        seconds: of this process.
    """

    folder: Path
    layers: tuple[int, ...]
    seconds: float


def train_saes(
    config: TrainingConfig | str | Path,
    *,
    model: LanguageModel | None = None,
    card: bool = True,
    progress: Callable[[Event], None] = lambda event: None,
    bars: Progress = silent,
) -> Trained:
    """Trains an SAE for every layer that is asked for, all from one pass over the text.

    A chunk of activations is captured and kept on disk, every layer's SAE is trained on it, and the next one takes its
    place: memory and disk do not grow with the number of tokens. After each chunk the SAEs' states are saved, so that a
    training that was stopped goes on, and ends with the same weights as one that was not.

    Args:
        config: or the path of its YAML file.
        model: the model, where it is already in memory; its name stands for `config.model`.
        card: whether the quality card is made at the end.
        progress: told what is done while training.
        bars: shows the batches of the quality card.

    Raises:
        UserError: settings that cannot be, text that is too short, a folder that was begun with other settings or is in
            use, NaN or infinite activations.
    """
    if not isinstance(config, TrainingConfig):
        config = load_training_config(config)
    start = time.monotonic()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    with _locked(out):
        record = _record(out, config)
        if not record.get("finished"):
            loaded = model or _load(config)
            _check_model(record, loaded, out)
            _Training(config, loaded, out, progress).run()
        if card and not (out / "card.json").exists():
            write_training_card(config, out, model=model, progress=bars)
        if card or not record.get("finished"):
            write_learning(out)
        layers = tuple(read_json(out / "training.json")["layers"])
    return Trained(out, layers, time.monotonic() - start)


class _Training:
    """One process' part of a training. Files: `training.json`, `work/` (removed at the end), `log/`, `layer_*`."""

    def __init__(
        self, config: TrainingConfig, model: LanguageModel, out: Path, progress: Callable[[Event], None]
    ) -> None:
        self.config, self.model, self.out, self.progress = config, model, out, progress
        self.layers = _layers(config, model)
        if config.text.context > model.context:
            raise UserError(
                f"text.context is {config.text.context}; {model.name} reads at most {model.context} tokens together."
            )
        self.reader = RowReader(model, Reading(self.layers, config.text.first_position, config.text.answer_repeats))
        self.held_out = {e.text for e in held_out_examples(config)}
        self.work = out / "work"
        self.chunk = min(config.chunk, config.tokens) // config.batch * config.batch
        self.total = config.tokens // config.batch * config.batch
        # a pass is small against a chunk, whose end cuts off what is too much
        self.tokens_per_pass = min(tokens_in_flight(model), max(config.text.context, self.chunk // 8))
        self.n_chunks = -(-self.total // self.chunk)
        self.autocast = _bfloat16(config.train_dtype, model.device)
        self.dropped = 0

    def run(self) -> None:
        scalings = self._scalings()
        position = self._position()
        streams = sources(self.config, self.model, self.held_out)
        for stream in streams:
            stream.skip(*position["sources"].get(stream.name, (0, 0)))
        self.dropped = position["dropped"]
        for chunk in range(position["chunk"], self.n_chunks):
            rows = min(self.chunk, self.total - chunk * self.chunk)
            buffer = ActivationBuffer(self.work / "buffer", self.layers, rows, self.model.d_model, self.model.dtype)
            if not position["filled"]:
                self._fill(buffer, streams, scalings, chunk)
                self._note(streams, chunk, filled=True)
            for n, layer in enumerate(self.layers):
                self._train(buffer, layer, scalings[layer], chunk, n)
            self._note(streams, chunk + 1, filled=False)
            position["filled"] = False
        warn_rounds(streams)
        for layer in self.layers:
            if not (layer_folder(self.out, layer) / "cfg.json").exists():
                trainer = self._trainer(layer, scalings[layer])
                save_sae(
                    trainer.finished(), layer_folder(self.out, layer), config=self.config, model=self.model, layer=layer
                )
        write_json(self.out / "training.json", self._described(finished=True))
        shutil.rmtree(self.work)

    def _fill(
        self, buffer: ActivationBuffer, streams: Sequence[Source], scalings: Mapping[int, Scaling], chunk: int
    ) -> None:
        """A chunk of activations; the last pass' surplus is left out."""
        filled, begun = 0, time.monotonic()
        while filled < buffer.rows:
            pieces = next_pieces(streams, self.tokens_per_pass)
            rows = self._kept(self.reader.rows(pieces), scalings)
            filled += buffer.write(filled, rows)
            rate = filled / max(time.monotonic() - begun, 1e-9)
            self.progress(Event("capture", None, chunk * self.chunk + filled, self.total, rate))

    def _kept(self, rows: Rows, scalings: Mapping[int, Scaling]) -> Rows:
        """Without the positions that are far too long at any layer."""
        cap = self.config.text.norm_cap
        if cap is None:
            return rows
        kept = torch.stack([x.float().norm(dim=-1) <= cap * scalings[k].norm for k, x in rows.items()]).all(0)
        self.dropped += int((~kept).sum())
        return {layer: x[kept] for layer, x in rows.items()}

    def _train(self, buffer: ActivationBuffer, layer: int, scaling: Scaling, chunk: int, n: int) -> None:
        """One layer's SAE on one chunk, unless it was before."""
        trainer = self._trainer(layer, scaling)
        if trainer.chunks > chunk:
            return
        seed = (self.config.seed * 1_000_003 + layer * 10_007 + chunk) % 2**63
        done, begun, lines = 0, time.monotonic(), []
        before = chunk * self.chunk * len(self.layers) + n * buffer.rows
        for size, line in trainer.train(buffer.batches(layer, self.config.batch, seed)):
            done += size
            rate = done / max(time.monotonic() - begun, 1e-9)
            if line is not None:
                lines.append({**asdict(line), "positions_per_second": round(rate)})
            self.progress(Event("train", layer, before + done, self.total * len(self.layers), rate, line))
        trainer.chunks = chunk + 1
        self._log(layer, lines)
        trainer.save(self._state(layer))

    def _trainer(self, layer: int, scaling: Scaling) -> LayerTrainer:
        trainer = LayerTrainer(self.config, layer, scaling, self.model.device, autocast=self.autocast)
        if self._state(layer).exists():
            trainer.load(self._state(layer))
        return trainer

    def _state(self, layer: int) -> Path:
        return self.work / f"layer_{layer:02d}.safetensors"

    def _log(self, layer: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """Adds to a layer's log; lines of an attempt that was cut off are replaced."""
        path = self.out / "log" / f"layer_{layer:02d}.csv"
        table = pd.DataFrame(lines)
        if path.exists() and len(table):
            earlier = pd.read_csv(path)
            table = pd.concat([earlier[earlier["step"] < table["step"].min()], table])
        if len(table):
            with writing(path) as part:
                table.to_csv(part, index=False, float_format="%.6g")

    def _scalings(self) -> dict[int, Scaling]:
        """From a first look at the text, which is read again afterwards."""
        path = self.work / "scaling.safetensors"
        if not path.exists():
            streams = sources(self.config, self.model, self.held_out)
            seen: dict[int, list[torch.Tensor]] = {layer: [] for layer in self.layers}
            count, wanted = 0, min(CALIBRATION, self.total)
            while count < wanted:
                rows = self.reader.rows(next_pieces(streams, self.tokens_per_pass))
                count += len(rows[self.layers[0]])
                for layer, values in rows.items():
                    seen[layer].append(values.cpu())
            tensors = {}
            write_json(self.out / "training.json", self._described(finished=False))
            for layer, parts in seen.items():
                found = Scaling.of(torch.cat(parts), self.config.text.norm_cap)
                tensors[f"{layer}"] = torch.cat([found.centre, torch.tensor([found.spread, found.norm])])
            with writing(path) as part:
                save_file(tensors, part)
        stored = load_file(path)
        return {
            layer: Scaling(stored[f"{layer}"][:-2], float(stored[f"{layer}"][-2]), float(stored[f"{layer}"][-1]))
            for layer in self.layers
        }

    def _position(self) -> dict[str, Any]:
        path = self.work / "position.json"
        start: dict[str, Any] = {"chunk": 0, "filled": False, "sources": {}, "dropped": 0}
        return read_json(path) if path.exists() else start

    def _note(self, streams: Sequence[Source], chunk: int, *, filled: bool) -> None:
        places = {s.name: (s.taken, s.positions) for s in streams}
        value = {"chunk": chunk, "filled": filled, "sources": places, "dropped": self.dropped}
        write_json(self.work / "position.json", value)

    def _described(self, *, finished: bool) -> dict[str, Any]:
        return {
            "finished": finished,
            "layers": list(self.layers),
            "model": {"name": self.model.name, "identity": self.model.identity, "dtype": str(self.model.dtype)},
            "interp": __version__,
            "bfloat16_products": self.autocast,
            "dropped_positions": self.dropped,
            "config": self.config.as_dict(),
        }


def _layers(config: TrainingConfig, model: LanguageModel) -> tuple[int, ...]:
    wanted = tuple(range(model.n_layers)) if config.layers is None else tuple(sorted(config.layers))
    for layer in wanted:
        if not 0 <= layer < model.n_layers:
            raise UserError(f"layers: {model.name} has layers 0 to {model.n_layers - 1}; got {layer}.")
    return wanted


def _check_model(record: Mapping[str, Any], model: LanguageModel, out: Path) -> None:
    """A training goes on with the weights and the precision that it was begun with."""
    before = record.get("model", {})
    for key, now in (("identity", model.identity), ("dtype", str(model.dtype))):
        if key in before and before[key] != now:
            raise UserError(
                f"{out} was begun with another model ({key} {before[key]}, now {now}); choose another --out."
            )


def _load(config: TrainingConfig) -> LanguageModel:
    device = resolve_device(config.device)
    dtype = "bfloat16" if _bfloat16(config.capture_dtype, device) else "float32"
    return load_model(config.model, device=config.device, dtype=dtype, chat=config.prompt.chat)


def _bfloat16(wanted: str, device: torch.device) -> bool:
    """Whether bfloat16 is asked for, or computed in by the processor itself."""
    if wanted != "auto":
        return wanted == "bfloat16"
    if device.type != "cpu":
        return True
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One process per folder.

    Raises:
        UserError: another one is at work there, or the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"Another process is writing to {out}; wait for it, or choose another --out.") from None
    except OSError as error:
        raise UserError(f"Cannot write to {out}: {error.strerror}; choose another --out.") from None
    try:
        yield
    finally:
        lock.release()


def _record(out: Path, config: TrainingConfig) -> dict[str, Any]:
    """What is already in the folder.

    Raises:
        UserError: it was begun with other settings, or holds something else.
    """
    path = out / "training.json"
    if not path.exists():
        if any(p.name != ".lock" for p in out.iterdir()):
            raise UserError(
                f"{out} holds files but no training.json: it is no folder of a training; choose another --out."
            )
        return {}
    try:
        record: dict[str, Any] = read_json(path)
        before = dict(record["config"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path} is damaged; remove {out} or choose another --out.") from None
    now = json.loads(json.dumps(config.as_dict()))
    for part in (before, now):
        for name in UNCHANGING:
            part.pop(name, None)
        part["held_out"] = {k: v for k, v in part.get("held_out", {}).items() if k != "tokens"}
    change = changed_field(before, now)
    if change:
        raise UserError(f"{out} was begun with other settings: {change}. Give the same ones, or choose another --out.")
    return record
