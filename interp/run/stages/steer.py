"""Stage `steer`: methods fitted and compared on the fit split; the best that does no harm is chosen, or none."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from interp.files.units import Arrays
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.steerings import (
    FOLDER,
    answered_ratio,
    fitted_on,
    ground,
    provenance,
    remembered,
    rival_ground,
    steering_quality,
)
from interp.statistics import Bootstrap
from interp.steering.choosing import Budget, Price, choose
from interp.steering.rivals import OF_REFERENCE, rivals
from interp.steering.steering import Steering
from interp.steering.trials import Trial, all_trials, possible_methods


@stage(
    "steer",
    reads=("examples.parquet", "activations"),
    may_read=("effects.parquet",),
    writes=("steering.safetensors", "steering.json", "trials.parquet", "steerings", "units/steer"),
    fields=(
        "steering.method",
        "steering.labels",
        "steering.readers",
        "steering.features",
        "steering.first_layer",
        "steering.perplexity_budget",
        "steering.harm_budget",
        "fluency",
        "resamples",
        "seed",
    ),
    sources=("plain_documents", "anchor_texts"),
    edition=2,  # of few labels only `coupled` is tried
    # global, and gated twice; 40 steps, 3 folds and all examples; a backward pass counts double
    cost=lambda work: work.fit * (3 if work.config.corpora.anchors else 1) * 3 * 40 * 4 * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `steering.safetensors` / `.json` (the choice), `trials.parquet` (all that was tried) and `steerings/`."""
    fitted, config = fitted_on(session), session.config.steering
    units = session.units("steer").of(fitted)
    made_from = session.made(ground)
    data, features = made_from.data, made_from.features

    def remember(makers: Mapping[str, Callable[[], Arrays]]) -> list[Arrays]:
        return list(session.engine.map(lambda one: units.arrays(*one), list(makers.items())))

    def keep(makers: Mapping[str, Callable[[], Steering]]) -> list[Steering]:
        return list(session.engine.map(lambda one: remembered(units, *one), list(makers.items())))

    def make(trial: Trial) -> Steering:
        if trial.steering is not None:
            return trial.steering
        return keep({f"{trial.method} {trial.setting}": partial(trial.make, data)})[0]

    def price(trial: Trial, steering: Steering) -> Price:
        ratio = steering_quality(session, steering, units, short=True)["perplexity_ratio"].value
        return Price(ratio, answered_ratio(session, steering, units))

    methods = [m for m in possible_methods(made_from) if config.method in ("best", m)]
    shown = session.progress(methods, "steer", "method")
    trials = all_trials(made_from, shown, session.seed("folds"), remember)
    choice = choose(
        data,
        trials,
        Budget(config.harm_budget, config.perplexity_budget),
        Bootstrap(data.groups, session.config.resamples, session.seed("trials")),
        session.seed("nested"),
        make=make,
        price=price,
    )
    made = {method: make(trial) for method, trial in choice.kept.items()}
    reference, made_with = choice.reference, provenance(session)
    steered = None if reference is None else made[reference.method]
    procedure = None if reference is None else [reference.method, reference.setting]
    of = {name: units.of([fitted, "rivals", procedure]) for name in OF_REFERENCE}
    free = units.of([fitted, "rivals"])

    def keep_rivals(makers: Mapping[str, Callable[[], Steering]]) -> list[Steering]:
        return list(session.engine.map(lambda one: remembered(of.get(one[0], free), *one), list(makers.items())))

    others = rivals(rival_ground(session, made_from), reference, steered, keep_rivals)
    tables.write(session.folder / "trials.parquet", choice.table())
    for name, one in (made | others).items():
        replace(one, provenance=made_with).save(session.folder / FOLDER / name)
    facts = made_with | choice.facts(any_causal=bool(features))
    facts["n_unlabelled"] = len(session.role("fit")) - len(data.gold)
    facts["n_anchors"] = {name: sum(len(c.n_tokens) for c in parts) for name, parts in data.anchors.items()}
    facts["seed"] = session.config.seed
    chosen = made.get(choice.chosen.method, Steering("none"))
    replace(chosen, method=choice.chosen.method, positions="answer", provenance=facts).save(session.folder.path)
    units.clear()
