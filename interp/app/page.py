"""The page: Gradio's blocks around the calls of a `Workbench`."""

import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from interp.app import calls
from interp.app.workbench import FeatureFacts, SideBySide, Workbench
from interp.errors import UserError, printable
from interp.report.dialogue import dialogue_figure
from interp.report.inspecting import answers_figure, evidence_figure, features_table
from interp.steering.export import FORMATS

log = logging.getLogger("interp.app")
SLIDERS = 8
"""Features behind an answer that get a slider."""
MOST_TOKENS = 200
TEXT = "The milk had gone sour and lumps slid into my cup."
DIALOGUE = """Anna: I found the letter you had hidden.
Ben: You had no right to open it!
Anna: I read it and could not stop crying."""
PROMPT = "When I opened the door"
MODEL = "model"
"""All that passes the model waits in one queue."""
QUIET: dict[str, Any] = {"show_progress": "minimal", "concurrency_limit": 1, "concurrency_id": MODEL}
CSS = """
.said:not(:empty) {color: #b35900; font-weight: 600}
.dark .said:not(:empty) {color: #ffa94d}
.written textarea {font-size: 15px}
footer {display: none !important}
"""


def build_page(bench: Workbench) -> gr.Blocks:
    """The page of an opened run or model; `launch` of it serves it."""
    with gr.Blocks(title=f"interp: {bench.name}", analytics_enabled=False) as page:
        model = bench.model
        gr.Markdown(
            f"# {Path(bench.name).name or bench.name}\n{model.name}: {model.n_layers} layers, d_model {model.d_model};"
            f" {_saes(bench)}; labels {', '.join(bench.labels)}."
        )
        found = gr.State([])
        with gr.Tab("Read a text"):
            _reading(bench, found)
        with gr.Tab("Steer"):
            _steering(bench, found)
        with gr.Tab("Dialogue"):
            _dialogue(bench)
    return page


def look() -> dict[str, Any]:
    """Options of `launch` for the looks: fonts of the reader's own machine, nothing fetched from elsewhere."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return {"theme": gr.themes.Default(**fonts), "css": CSS}


def _saes(bench: Workbench) -> str:
    layers = bench.saes.layers
    return f"sparse autoencoders at {len(layers)} layers" if layers else "no sparse autoencoders"


# ------------------------------------------------------------------------------------------ what goes wrong


def told(outputs: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A handler whose last output says what went wrong, and is empty where nothing did; the others stay as they were.

    Args:
        outputs: of the handler, without that last one.
    """

    def wrap(handler: Callable[..., Iterator[Sequence[Any]]]) -> Callable[..., Iterator[list[Any]]]:
        def safe(*given: Any) -> Iterator[list[Any]]:
            try:
                for values in handler(*given):
                    yield [*values, ""]
            except UserError as error:
                yield [*[gr.skip()] * outputs, escape(printable(str(error)))]
            except Exception as error:
                log.exception("the page's handler failed")
                said = f"Internal error, our fault ({type(error).__name__}); the page goes on."
                yield [*[gr.skip()] * outputs, said]

        return safe

    return wrap


def _said() -> gr.Markdown:
    return gr.Markdown("", elem_classes="said")


def _code(elem_id: str) -> gr.Code:
    return gr.Code("", language="python", label="the same in Python", elem_id=elem_id, interactive=False, lines=2)


# ------------------------------------------------------------------------------------------ reading


def _reading(bench: Workbench, found: gr.State) -> None:
    text = gr.Textbox(TEXT, label="Text", lines=3, elem_id="text")
    with gr.Row():
        button = gr.Button("Read", variant="primary", elem_id="read", scale=1)
        label = gr.Dropdown(bench.labels, label="Evidence for", elem_id="label", scale=2)
    said = _said()
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            evidence = gr.Plot(label="Evidence by layer and token", show_label=False, elem_id="evidence")
            gr.Markdown(
                "Colour: the label's probability among the labels if that layer's residual at that token were read out"
                " (logit lens). Only the last column is where the model answers. n = 1 text."
            )
        with gr.Column(scale=2):
            answers = gr.Plot(label="Answers", show_label=False, elem_id="answers")
    code = _code("look-code")
    table = gr.Dataframe(
        label="Features behind the answer (exact, one at a time; choose a row for its card)",
        interactive=False,
        elem_id="features",
    )
    card = gr.Markdown("", elem_id="card")
    card_code = _code("card-code")
    kept = gr.State(None)

    @told(6)
    def read(text: str) -> Iterator[Sequence[Any]]:
        seen = bench.look(text)
        shown = features_table(seen)
        rows = [[_cell(value) for value in row] for row in shown.rows]
        keys = [(f.layer, f.feature) for f in seen.features]
        at = seen.labels.index(seen.answer)
        yield (
            seen,
            gr.update(value=seen.answer),
            evidence_figure(seen, at),
            answers_figure(seen),
            {"headers": [c.title for c in shown.columns], "data": rows},
            keys,
        )

    @told(1)
    def evidence_for(label: str, seen: Any) -> Iterator[Sequence[Any]]:
        yield [evidence_figure(seen, seen.labels.index(label)) if seen is not None and label else gr.skip()]

    @told(2)
    def open_card(keys: list[tuple[int, int]], row: int) -> Iterator[Sequence[Any]]:
        layer, feature = keys[row]
        yield card_text(bench.card(layer, feature)), calls.card_call(bench, layer, feature)

    def chosen(keys: list[tuple[int, int]], event: gr.SelectData) -> Any:
        *_, last = open_card(keys, int(event.index[0]))
        return last

    outputs = [kept, label, evidence, answers, table, found, said]
    for trigger in (button.click, text.submit):
        trigger(lambda text: calls.look_call(bench, text), text, code, queue=False)
        trigger(read, text, outputs, api_visibility="private", **QUIET)
    label.input(evidence_for, [label, kept], [evidence, said], api_visibility="private", show_progress="hidden")
    table.select(chosen, found, [card, card_code, said], api_visibility="private", **QUIET)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return float(np.round(value, 3)) if isinstance(value, float) else value


def card_text(card: FeatureFacts) -> str:
    """A card in Markdown; texts as they are, not as markup."""

    def words(pairs: Sequence[tuple[str, float]]) -> str:
        return ", ".join(f"<code>{escape(repr(token))}</code> {weight:+.3f}" for token, weight in pairs)

    lines = [f"### Layer {card.layer}, feature {card.feature}", f"writes: {words(card.promotes)}"]
    lines += [f"writes against: {words(card.suppresses)}"]
    lines += (
        ["; ".join(card.emotions)] if card.emotions else ["The run has no card of it: it was not among the causal."]
    )
    lines += [f"> {escape(' '.join(text.split()))}" for text in card.texts]
    if card.neuronpedia:
        lines.append(f"[on Neuronpedia]({card.neuronpedia})")
    return "\n\n".join(lines)


# ------------------------------------------------------------------------------------------ steering


def _steering(bench: Workbench, found: gr.State) -> None:
    own_there = bench.steerable.own is not None
    prompt = gr.Textbox(PROMPT, label="Prompt", lines=2, elem_id="prompt")
    with gr.Row():
        on = gr.Checkbox(True, label="steering on", elem_id="on")
        own = gr.Checkbox(False, label="the run's own steering", visible=own_there, elem_id="own")
        own_strength = gr.Slider(0, 3, 1, step=0.05, label="its strength", visible=own_there)
    if not bench.emotions:
        gr.Markdown("There is no emotion to push towards here: a run finds them (`interp run --model …`).")
    emotions: list[gr.Slider] = []
    with gr.Row():
        for emotion in bench.emotions:
            emotions.append(gr.Slider(-1.5, 1.5, 0, step=0.05, label=emotion, elem_id=f"push-{emotion}", min_width=140))
    features: list[gr.Slider] = []
    with gr.Accordion("Features behind the answer to the text that was read (1 leaves, 0 removes)", open=False):
        waiting = gr.Markdown("Read a text first.")
        with gr.Row():
            for i in range(SLIDERS):
                features.append(
                    gr.Slider(0, 6, 1, step=0.1, visible=False, label="", elem_id=f"gain-{i}", min_width=140)
                )
    with gr.Row():
        tokens = gr.Slider(5, MOST_TOKENS, 40, step=1, label="tokens")
        temperature = gr.Slider(0, 1.5, 0.8, step=0.05, label="temperature (0: always the likeliest)")
        seed = gr.Number(0, label="seed", precision=0, minimum=0, maximum=2**32 - 1)
    with gr.Row():
        write = gr.Button("Write", variant="primary", elem_id="write")
        stop = gr.Button("Stop")
    said, warned = _said(), gr.Markdown("", elem_classes="said", elem_id="warned")
    with gr.Row():
        plain = gr.Textbox(label="plain", lines=8, interactive=False, elem_id="plain", elem_classes="written")
        steered = gr.Textbox(label="steered", lines=8, interactive=False, elem_id="steered", elem_classes="written")
    surprise = gr.Markdown("", elem_id="perplexity")
    code = _code("write-code")
    with gr.Row():
        to = gr.Dropdown(["interp", *FORMATS], value="interp", label="save or export as", elem_id="to")
        save = gr.Button("Make the files", elem_id="save")
        files = gr.File(label="steering", elem_id="files", interactive=False)
    save_said = _said()
    save_code = _code("save-code")
    sliders = [*emotions, *features]
    inputs = [on, own, own_strength, found, *sliders]

    def asked(own: bool, strength: float, keys: list[Any], *values: float) -> dict[str, Any]:
        pushes = dict(zip(bench.emotions, map(float, values), strict=False))
        gains = values[len(bench.emotions) :]
        shown = [(int(layer), int(feature)) for layer, feature in keys[:SLIDERS]]
        return {
            "emotions": {emotion: value for emotion, value in pushes.items() if value},
            "features": {key: float(gain) for key, gain in zip(shown, gains, strict=False) if gain != 1},
            "own": float(strength) if own else None,
        }

    @told(4)
    def both(prompt: str, tokens: int, heat: float, seed: int, on: bool, *rest: Any) -> Iterator[Sequence[Any]]:
        steering = bench.steering(**asked(*rest)) if on else bench.steering()
        options: dict[str, Any] = {"tokens": int(tokens), "temperature": float(heat), "seed": int(seed or 0)}
        for now in bench.side_by_side(prompt, steering, **options):
            yield now.plain, now.steered, perplexities(now), escape(now.warning)

    def both_call(prompt: str, tokens: int, heat: float, seed: int, on: bool, *rest: Any) -> str:
        steering = calls.steering_call(bench, **(asked(*rest) if on else {"emotions": {}, "features": {}, "own": None}))
        return calls.write_call(steering, prompt, int(tokens), float(heat), int(seed or 0))

    @told(1)
    def files_of(to: str, on: bool, *rest: Any) -> Iterator[Sequence[Any]]:
        steering = bench.steering(**asked(*rest)) if on else bench.steering()
        folder = Path(tempfile.mkdtemp(prefix="interp-"))
        bench.export(steering, to, folder / f"steering-{to}")
        yield [_zipped(folder / f"steering-{to}")]

    def files_call(to: str, on: bool, *rest: Any) -> str:
        steering = calls.steering_call(bench, **(asked(*rest) if on else {"emotions": {}, "features": {}, "own": None}))
        return calls.export_call(steering, to)

    def named(keys: list[Any]) -> list[Any]:
        """A slider for each feature behind the answer; all of them leave it."""
        updates: list[Any] = [gr.update(visible=not keys)]
        for i in range(SLIDERS):
            label = f"layer {keys[i][0]}, feature {keys[i][1]}" if i < len(keys) else ""
            updates.append(gr.update(visible=i < len(keys), label=label, value=1))
        return updates

    given = [prompt, tokens, temperature, seed, *inputs]
    outputs = [plain, steered, surprise, warned, said]
    running = []
    for trigger in (write.click, prompt.submit):
        trigger(both_call, given, code, queue=False)
        running.append(trigger(both, given, outputs, api_visibility="private", **QUIET))
    stop.click(None, cancels=running)
    save.click(files_call, [to, *inputs], save_code, queue=False)
    save.click(files_of, [to, *inputs], [files, save_said], api_visibility="private", **QUIET)
    found.change(named, found, [waiting, *features], queue=False)


def perplexities(now: SideBySide) -> str:
    """What both texts cost a reader who is the model as it is."""
    if not now.done:
        return ""
    shown = ["-" if p is None else f"{p:.1f}" for p in (now.plain_perplexity, now.steered_perplexity)]
    return f"Perplexity of what was written, to the model as it is: plain {shown[0]}, steered {shown[1]}."


def _zipped(folder: Path) -> str:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return str(path)


# ------------------------------------------------------------------------------------------ dialogue


def _dialogue(bench: Workbench) -> None:
    text = gr.Textbox(DIALOGUE, label="A turn a line: speaker, colon, words", lines=6, elem_id="dialogue")
    with gr.Row():
        before = gr.Checkbox(False, label="read each turn with those before it")
        button = gr.Button("Read the dialogue", variant="primary", elem_id="read-dialogue")
    said = _said()
    track = gr.Plot(label="Emotion by speaker and turn", show_label=False, elem_id="track")
    table = gr.Dataframe(label="Answers", interactive=False, elem_id="turns")
    code = _code("dialogue-code")

    @told(2)
    def read(text: str, before: bool) -> Iterator[Sequence[Any]]:
        found = bench.dialogue(text, before=before)
        rows = [
            [i + 1, turn.speaker, answer, round(float(found.probabilities[i].max()), 3), turn.words]
            for i, (turn, answer) in enumerate(zip(found.turns, found.answers, strict=True))
        ]
        headers = ["turn", "speaker", "answer", "probability", "words"]
        yield dialogue_figure(found), {"headers": headers, "data": rows}

    button.click(lambda text, before: calls.dialogue_call(bench, text, before), [text, before], code, queue=False)
    button.click(read, [text, before], [track, table, said], api_visibility="private", **QUIET)
