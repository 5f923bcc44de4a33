"""Capture, tracing and attribution on the weights of real models, against what people use today."""

from typing import Any

from benchmarks import attribution, speed
from benchmarks.results import hardware, write
from benchmarks.timing import peak_flops
from benchmarks.worlds import World, random_saes
from interp import load_corpus, load_model, load_saes
from interp.errors import UserError
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.texts.emotions import EKMAN
from interp.texts.prompts import build_prompts

MODELS = ("smollm2-135m-instruct", "gemma-3-270m")
FEATURES = 64
TRACED = 4
CAPTURED = 16
ATTRIBUTED = 24
TARGETS = {
    "smollm2-135m-instruct": {"tracing against (c)": 350, "tracing against (d)": 300},
    "gemma-3-270m": {"tracing against (c)": 1200, "tracing against (d)": 600},
}
"""Ratios asked for at two thirds of the depth."""


def real_world(model: LanguageModel, saes: SaeStack, n_prompts: int) -> World:
    """Vignettes in the default template, and in the model's chat template where it has one."""
    examples = load_corpus("vignettes", split="test")[:n_prompts]
    return World(model.name, model, saes, list(build_prompts([e.text for e in examples], EKMAN)), list(EKMAN))


def own_saes(name: str, model: LanguageModel) -> tuple[SaeStack, str]:
    """The SAEs that ship for the model, else random ones of every layer: what they cost is the same."""
    try:
        return load_saes(name, model), "its SAEs"
    except UserError:
        return random_saes(model.n_layers, model.d_model, 4096), "random SAEs of 4,096 features"


def run() -> None:
    """Writes results/real.md and real.json, after every model."""
    peak = peak_flops()
    found: dict[str, Any] = {"hardware": hardware(), "peak_gflops": peak / 1e9, "worlds": {}}
    for name in MODELS:
        model = load_model(name)
        saes, which = own_saes(name, model)
        wanted = round(2 * model.n_layers / 3)
        layer = min(saes.layers, key=lambda k: abs(k - wanted))
        print(f"{name}: {which}, layer {layer} of {model.n_layers}")
        captures = speed.bench_capture(real_world(model, saes, CAPTURED), sae_lens=True)
        world = real_world(model, saes, TRACED)
        rows, gap = speed.bench_tracing(world, layer, FEATURES)
        lengths = [len(e.ids) for e in model.encode(world.prompts)]
        floor = speed.flop_floor(world, layer, sum(lengths) // len(lengths))
        found["worlds"][name] = {
            "saes": which,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "d_sae": saes.d_sae(layer),
            "captured_prompts": CAPTURED,
            "traced_prompts": TRACED,
            "layer": layer,
            "features": FEATURES,
            "capture_s": captures,
            "tracing_s_per_row": rows,
            "logit_gap": gap,
            "all_positions": speed.bench_everywhere(world, layer),
            "peak_share": floor / rows["interp"] / peak,
            "attribution": attribution.by_layer(model, saes, ATTRIBUTED) if which == "its SAEs" else [],
        }
        write("real", found, render(found))


def render(found: dict[str, Any]) -> list[str]:
    """The Markdown of what was found."""
    lines = [
        f"# Speed on real weights\n\n{found['hardware']}; measured matrix-product peak"
        f" {found['peak_gflops']:.0f} GFLOP/s. Medians of 5; prompts are vignettes.\n",
        "| | target | measured |",
        "|---|---|---|",
    ]
    for name, world in found["worlds"].items():
        captures, rows = world["capture_s"], world["tracing_s_per_row"]
        bare = captures["Hugging Face backbone alone"]
        lean = captures["capture of all layers, no encodes"]
        lines.append(f"| {name}: capture against the bare backbone | at most 1.05 | {lean / bare:.3f} |")
        for what, target in TARGETS.get(name, {}).items():
            rival = next(v for k, v in rows.items() if k.startswith(what[-3:]))
            lines.append(f"| {name}, layer {world['layer']}: {what} | {target} | {rival / rows['interp']:.0f} |")
        lines.append(f"| {name}: share of the matrix-product peak | 0.75 | {world['peak_share']:.2f} |")
    for name, world in found["worlds"].items():
        lines += speed.tables(f"{name} with {world['saes']}", world)
        if world["attribution"]:
            lines += ["", f"Attribution against exact effects, {ATTRIBUTED} vignettes, every active feature:", ""]
            lines += attribution.table(world["attribution"])
    return lines
