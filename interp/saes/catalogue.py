"""Models with public residual-stream SAEs, what they take, and what of it is in the local cache."""

from dataclasses import dataclass

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup

from interp.models.sources import locate, packaged_models
from interp.saes.releases import SaeChoice, residual_choices, residual_releases, spans

FACTS: dict[str, tuple[str, float, int, bool]] = {
    "gemma-2-2b": ("google/gemma-2-2b", 2.6e9, 2304, True),
    "gemma-2-9b": ("google/gemma-2-9b", 9.2e9, 3584, True),
    "gemma-2-9b-it": ("google/gemma-2-9b-it", 9.2e9, 3584, True),
    "gemma-2-27b": ("google/gemma-2-27b", 27.2e9, 4608, True),
    "google/gemma-3-270m": ("google/gemma-3-270m", 0.27e9, 640, True),
    "google/gemma-3-270m-it": ("google/gemma-3-270m-it", 0.27e9, 640, True),
    "google/gemma-3-1b-pt": ("google/gemma-3-1b-pt", 1.0e9, 1152, True),
    "google/gemma-3-1b-it": ("google/gemma-3-1b-it", 1.0e9, 1152, True),
    "google/gemma-3-4b-pt": ("google/gemma-3-4b-pt", 4.3e9, 2560, True),
    "google/gemma-3-4b-it": ("google/gemma-3-4b-it", 4.3e9, 2560, True),
    "google/gemma-3-12b-pt": ("google/gemma-3-12b-pt", 12.2e9, 3840, True),
    "google/gemma-3-12b-it": ("google/gemma-3-12b-it", 12.2e9, 3840, True),
    "google/gemma-3-27b-pt": ("google/gemma-3-27b-pt", 27.4e9, 5376, True),
    "google/gemma-3-27b-it": ("google/gemma-3-27b-it", 27.4e9, 5376, True),
    "gpt2-small": ("openai-community/gpt2", 0.124e9, 768, False),
    "pythia-70m-deduped": ("EleutherAI/pythia-70m-deduped", 0.07e9, 512, False),
    "meta-llama/Meta-Llama-3-8B-Instruct": ("meta-llama/Meta-Llama-3-8B-Instruct", 8.0e9, 4096, True),
    "meta-llama/Llama-3.1-8B": ("meta-llama/Llama-3.1-8B", 8.0e9, 4096, True),
    "meta-llama/Llama-3.1-8B-Instruct": ("meta-llama/Llama-3.1-8B-Instruct", 8.0e9, 4096, True),
    "meta-llama/Llama-3.3-70B-Instruct": ("meta-llama/Llama-3.3-70B-Instruct", 70.6e9, 8192, True),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8.0e9, 4096, False),
    "mistral-7b": ("mistralai/Mistral-7B-v0.1", 7.2e9, 4096, False),
    "Qwen/Qwen2.5-7B-Instruct": ("Qwen/Qwen2.5-7B-Instruct", 7.6e9, 3584, False),
    "Qwen/Qwen3-1.7B-Base": ("Qwen/Qwen3-1.7B-Base", 1.7e9, 2048, False),
    "Qwen/Qwen3-8B-Base": ("Qwen/Qwen3-8B-Base", 8.2e9, 4096, False),
}
"""Supported models by the registry's name: hub id, parameters, d_model, whether gated (from their model cards)."""


@dataclass(frozen=True)
class Entry:
    """A release and its model; sizes in bytes, weights in bfloat16, SAEs in float32.

    A model of the package index stands without a release: `release` is empty, and its weights are in float32.

    Attributes:
        source: hub, or index for the Python package index.
        licence: where it is known.
        download_bytes: what fetching the model takes, where that is known.
        quantisation: how the published file holds most weights, if it is quantised.
        terms: what `interp fetch --accept-terms` wants to hear, if anything.
    """

    model: str
    release: str
    layers: str
    n_layers: int
    widths: list[int]
    sae_bytes: int | None
    model_bytes: int | None
    gated: bool | None
    cached: bool
    source: str = "hub"
    licence: str | None = None
    download_bytes: int | None = None
    quantisation: str | None = None
    terms: str | None = None


def catalogue(*, everything: bool = False) -> list[Entry]:
    """Models of the package index, and releases with SAEs on the residual stream, by model.

    Args:
        everything: also those of models whose architecture is not supported, or not known here.
    """
    cached = _cached_repositories()
    entries = [
        _entry(entry, residual_choices(entry), cached)
        for entry in residual_releases().values()
        if everything or entry.model in FACTS
    ]
    return [
        *(_packaged(name) for name in packaged_models()),
        *sorted(entries, key=lambda e: (e.model_bytes or 0, e.model, e.release)),
    ]


def _packaged(name: str) -> Entry:
    """A model of the package index."""
    model = packaged_models()[name]
    return Entry(
        model=name,
        release="",
        layers=f"0-{model.layers - 1}",
        n_layers=model.layers,
        widths=[],
        sae_bytes=None,
        model_bytes=model.disk_bytes,
        gated=model.terms is not None,
        cached=locate(name).ready,
        source="index",
        licence=model.licence,
        download_bytes=model.download_bytes,
        quantisation=model.quantisation,
        terms=model.terms.name if model.terms else None,
    )


def _entry(entry: PretrainedSAELookup, choices: list[SaeChoice], cached: set[str]) -> Entry:
    name = "gemma-2-9b-it" if entry.release == "gemma-scope-9b-it-res" else entry.model  # the registry names the base
    model, parameters, d_model, gated = FACTS.get(name, (name, None, None, None))
    widths = sorted({c.width for c in choices if c.width})
    return Entry(
        model=model,
        release=entry.release,
        layers=spans(sorted({c.layer for c in choices})),
        n_layers=len({c.layer for c in choices}),
        widths=widths,
        sae_bytes=2 * widths[0] * d_model * 4 if widths and d_model else None,
        model_bytes=int(2 * parameters) if parameters else None,
        gated=gated,
        cached=model in cached and entry.repo_id in cached,
    )


def _cached_repositories() -> set[str]:
    try:
        return {repo.repo_id for repo in scan_cache_dir().repos}
    except CacheNotFound:
        return set()
