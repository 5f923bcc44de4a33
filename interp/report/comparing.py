"""Several runs side by side: other models, corpora, templates, seeds."""

from collections.abc import Sequence
from html import escape
from itertools import combinations
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from interp.errors import UserError
from interp.files.folder import write_table, writing
from interp.files.stored import as_recorded, read_json, read_table
from interp.report.figures import FURTHER, NAMES, styled
from interp.run.reading import RunFiles

SHOWN = ("probe_residuals", "probe_features", "joint_ablation", "direct_evidence")
MEASURES = ("recall", "n_causal", "effective_number", "share_top_1", "removed_together", "follows_in_others")
WORDS = ("taken_for", "overshadowed_by", "fires_with")
READ = ("why.parquet", "signals.parquet", "phases.json", "effects.parquet", "examples.parquet")
"""Files of every run that are read here."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:CanvasText;"
    "background:Canvas;color-scheme:light dark}table{border-collapse:collapse;font-size:13px}td,th{padding:4px 10px;"
    "border-bottom:1px solid #7d859055;text-align:left}.scroll{overflow-x:auto}.note{color:#7d8590;max-width:46rem}"
)


def compare(folders: Sequence[Path], out: Path) -> tuple[pd.DataFrame, Path]:
    """Writes `compare.parquet` and `compare.html` into `out`; layers are aligned by relative depth.

    Returns:
        The tidy table (run, emotion, measure, value) and the page.

    Raises:
        UserError: fewer than two runs, or one that has not been traced.
    """
    if len(folders) < 2:
        raise UserError("interp compare needs at least two run folders.")
    names = _names(folders)
    records = {}
    for name, folder in names.items():
        for file in ("run.json", *READ):
            if not (folder / file).is_file():
                raise UserError(f"{folder} holds no {file}; run `interp trace` there first.")
        records[name] = RunFiles(folder).record
        as_recorded(folder, READ, records[name])
    why = pd.concat([read_table(f / "why.parquet").assign(run=n) for n, f in names.items()], ignore_index=True)
    tidy = why.melt(["run", "emotion"], [m for m in MEASURES if m in why], "measure", "value")
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "compare.parquet", tidy)
    page = out / "compare.html"
    with writing(page) as part:
        part.write_text(_page(names, records, why), encoding="utf-8")
    return tidy, page


def causal_overlap(folders: dict[str, Path], records: dict[str, dict]) -> pd.DataFrame:
    """Jaccard overlap of the causal (layer, feature, emotion) triples of every two runs on the same SAEs."""
    found = {}
    for name, folder in folders.items():
        causal = RunFiles(folder).causal_features()
        found[name] = set(zip(causal["layer"], causal["feature"], causal["emotion"], strict=True))
    lines = []
    for a, b in combinations(found, 2):
        if records[a]["saes"]["identity"] == records[b]["saes"]["identity"]:
            union = found[a] | found[b]
            share = len(found[a] & found[b]) / len(union) if union else float("nan")
            lines.append(
                {"run": a, "beside": b, "causal": len(found[a]), "causal_beside": len(found[b]), "overlap": share}
            )
    return pd.DataFrame(lines)


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Folder names, with their parents where names recur."""
    short = [f.resolve().name for f in folders]
    return {
        name if short.count(name) == 1 else f"{f.resolve().parent.name}/{name}": f
        for name, f in zip(short, folders, strict=True)
    }


def _page(names: dict[str, Path], records: dict[str, dict], why: pd.DataFrame) -> str:
    parts = ["<h1>Runs side by side</h1>", _runs(names, records)]
    parts += ["<h2>Signals over relative depth</h2>"]
    parts += [_signal(names, records, signal) for signal in SHOWN]
    parts.append(
        '<p class="note">Depth 0 is the first layer, 1 the last. Each point is a mean over the discover examples of its'
        " run; intervals are in each run's signals.parquet. Dotted lines: boundaries of phases.</p>"
    )
    parts.append("<h2>Per emotion</h2>")
    for measure in (*MEASURES, *WORDS):
        if measure in why:
            wide = why.pivot(index="emotion", columns="run", values=measure).reindex(columns=list(names))
            parts.append(f"<h3>{measure.replace('_', ' ')}</h3>{_table(wide.reset_index())}")
    overlap = causal_overlap(names, records)
    if len(overlap):
        parts.append("<h2>Are they the same features?</h2>" + _table(overlap))
        parts.append(
            '<p class="note">Jaccard overlap of causal (layer, feature, emotion), for runs on the same SAEs.</p>'
        )
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>interp compare</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{body}</body></html>\n"
    )


def _runs(names: dict[str, Path], records: dict[str, dict]) -> str:
    lines = []
    for name, folder in names.items():
        record, phases = records[name], read_json(folder / "phases.json")
        examples = read_table(folder / "examples.parquet", columns=["role", "gold", "predicted"])
        discover = examples[examples["role"] == "discover"]
        config = record["config"]
        lines.append(
            {
                "run": name,
                "model": record["model"]["name"],
                "SAEs": record["saes"]["name"],
                "corpus": config["corpora"]["discover"]["name"],
                "template": config["prompt"]["template"],
                "examples": config["tracing"]["examples"],
                "seed": config["seed"],
                "n": len(discover),
                "accuracy": (discover["gold"] == discover["predicted"]).mean(),
                "phases": len(phases["phases"]),
                "verdict": phases["verdict"],
            }
        )
    return _table(pd.DataFrame(lines))


def _signal(names: dict[str, Path], records: dict[str, dict], signal: str) -> str:
    figure = go.Figure()
    for i, (name, folder) in enumerate(names.items()):
        depth = max(records[name]["model"]["n_layers"] - 1, 1)
        table = read_table(folder / "signals.parquet")
        mine = table[table["signal"] == signal].sort_values("layer")
        colour = FURTHER[i % len(FURTHER)]
        figure.add_scatter(x=mine["layer"] / depth, y=mine["value"], mode="lines+markers", name=name, line_color=colour)
        for boundary in read_json(folder / "phases.json")["boundaries"]:
            figure.add_vline(x=(boundary - 0.5) / depth, line={"color": colour, "dash": "dot", "width": 1})
    figure.update_xaxes(title_text="relative depth")
    figure.update_layout(title_text=NAMES.get(signal, signal))
    styled(figure, 320)
    return figure.to_html(include_plotlyjs=False, full_html=False, config={"displaylogo": False})


def _table(table: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        if value is None or value != value:
            return "-"
        return f"{value:.3g}" if isinstance(value, float) else escape(str(value))

    head = "".join(f"<th>{escape(str(c)).replace('_', ' ')}</th>" for c in table.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{cell(v)}</td>' for v in line)}</tr>" for line in table.itertuples(index=False))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
