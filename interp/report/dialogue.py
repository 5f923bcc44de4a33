"""A dialogue turn by turn: which emotion the model answers for what each speaker says."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.dialogue import DialogueTrack
from interp.report.looks import colours, styled


def dialogue_figure(track: DialogueTrack) -> go.Figure:
    """A panel per speaker, a curve per emotion over the turns of the whole dialogue. n = 1 text a point."""
    speakers = list(dict.fromkeys(turn.speaker for turn in track.turns))
    figure = make_subplots(
        rows=len(speakers), cols=1, shared_xaxes=True, subplot_titles=speakers, vertical_spacing=0.3 / len(speakers)
    )
    palette = colours(track.labels)
    for row, speaker in enumerate(speakers, 1):
        own = [i for i, turn in enumerate(track.turns) if turn.speaker == speaker]
        for k, label in enumerate(track.labels):
            figure.add_scatter(
                x=[i + 1 for i in own],
                y=[float(track.probabilities[i, k]) for i in own],
                customdata=[_short(track.turns[i].words) for i in own],
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=row == 1,
                line_color=palette[label],
                hovertemplate=f"turn %{{x}}: {label} %{{y:.0%}}<br>%{{customdata}}<extra></extra>",
                row=row,
                col=1,
            )
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    figure.update_xaxes(range=[0.5, len(track.turns) + 0.5], dtick=1 if len(track.turns) <= 20 else None)
    figure.update_xaxes(title_text="turn", row=len(speakers), col=1)
    return styled(figure, 90 + 150 * len(speakers))


def _short(words: Sequence[str] | str) -> str:
    text = str(words).replace("<", "&lt;")
    return text if len(text) <= 60 else f"{text[:60]} …"
