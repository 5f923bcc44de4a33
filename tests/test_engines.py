"""Engines of a run: the same files whichever computes them, whatever is lost on the way; and what is refused."""

import os
import pickle
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from worlds import contents, shell, start

from interp import UserError
from interp.engine import removal
from interp.engine.kept import remove_scratch
from interp.errors import DamagedError
from interp.files.folder import RunFolder, parts_named, remove_parts, write_json, writing
from interp.run import engines, pipeline
from interp.run.config import Config, ResourcesConfig, load_config
from interp.run.engines import InProcess, check_engine, placed, threads
from interp.run.inputs import Inputs
from interp.run.ray_nodes import CODE, Node, NodeFacts, check_alike, check_shared, look, room, wanted
from interp.run.ray_worker import received, sent
from interp.run.session import Session
from interp.run.sweep import load_sweep
from interp.run.sweeping import run_sweep

TWO = {"engine": "auto", "resources.cpus": "1", "resources.workers": "2"}
ON_TWO = {**TWO, "engine": "ray"}
unchecked = pytest.mark.skipif(
    bool(os.environ.get("INTERP_CHECK_SHAPES")),
    reason="functions whose shapes are checked cannot be sent: make test-ray",
)
on_ray = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
FACTS = NodeFacts({"python": "3.12", "torch": "2.9", CODE: "abc"}, reads=True, writes=True, start=True)


def node(name: str = "a", cpus: float = 4, gpus: float = 0, **facts: object) -> Node:
    return Node(name, name, cpus, gpus, FACTS._replace(**facts))


# ------------------------------------------------------------------------------------ what needs no Ray


def test_neighbours_go_to_one_worker_and_workers_have_about_as_much():
    rng = np.random.default_rng(0)
    for n_workers in (1, 2, 3, 7):
        for n in (1, 2, 5, 40):
            shares = rng.integers(1, 100, n).tolist()
            found = placed(shares, n_workers)
            assert found == sorted(found)
            assert set(found) <= set(range(n_workers))
            loads = np.bincount(found, shares, n_workers)
            assert loads.max() <= sum(shares) / n_workers + max(shares)
    assert placed([75, 53, 52], 2) == [0, 1, 1]
    assert placed([], 2) == []
    assert placed([0, 0], 2) == [0, 0]


def test_in_process_computes_an_item_when_it_is_asked_for():
    seen: list[int] = []
    found = InProcess().map(seen.append, [1, 2, 3])
    assert seen == []
    next(found)
    assert seen == [1]


def test_engine_and_resources_are_no_part_of_a_run():
    other = replace(Config(), engine="ray", resources=ResourcesConfig(cpus=2.0, gpus=0.5, workers=3))
    assert other.as_dict() == Config().as_dict()
    assert {"engine", "resources"}.isdisjoint(other.as_dict())
    assert pipeline.fingerprints(Inputs(other), pipeline.STAGES) == pipeline.fingerprints(
        Inputs(Config()), pipeline.STAGES
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("engine", "slurm", "must be local, ray, auto or ray://HOST:PORT"),
        ("engine", "ray://head", "must be local, ray, auto or ray://HOST:PORT"),
        ("resources.cpus", "0", "at least 0.01"),
        ("resources.cpus", "1.5", "must be whole above 1"),
        ("resources.gpus", "-1", "at least 0"),
        ("resources.workers", "0", "at least 1"),
    ],
)
def test_what_is_no_engine_or_resource_is_refused(key, value, said):
    with pytest.raises(UserError, match=said):
        load_config(None, {key: value})


def test_fractions_and_clients_are_taken():
    config = load_config(
        None, {"engine": "ray://head.example:10001", "resources.gpus": "0.25", "resources.cpus": "0.5"}
    )
    assert (config.resources.gpus, threads(config.resources)) == (0.25, 1)
    assert threads(ResourcesConfig(cpus=4.0)) == 4


def test_without_ray_a_line_says_how_to_get_it(world, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    check_engine(Config())
    with pytest.raises(UserError, match=r"pip install 'interp\[ray\]'"):
        start(world, tmp_path, engine="ray")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "grpc" else object())
    with pytest.raises(UserError, match="pip install 'ray\\[client\\]'"):
        check_engine(replace(Config(), engine="ray://head:10001"))


def test_a_run_in_this_process_imports_nothing_of_ray(world, tmp_path):
    import subprocess
    import sys

    pytest.importorskip("ray", reason="Ray is not installed, so every test shows it")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); from worlds import start;"
        "start(Path(sys.argv[1]), Path(sys.argv[2])); assert not [m for m in sys.modules if m.split('.')[0] == 'ray']"
    )
    subprocess.run([sys.executable, "-c", code, world, tmp_path, Path(__file__).parent], check=True)


def test_nodes_of_other_versions_are_named():
    here = FACTS.versions
    check_alike([node("a"), node("b")], here)
    for versions, said in (
        ({**here, "torch": "2.8"}, "Node b has torch 2.8 where this process has 2.9"),
        ({**here, CODE: "none"}, f"Node b has no {CODE}"),
        ({**here, CODE: "xyz"}, f"Node b has other code of {CODE}"),
        ({"python": "3.12", CODE: "abc"}, "Node b has no torch"),
    ):
        with pytest.raises(UserError, match=said):
            check_alike([node("a"), node("b", versions=versions)], here)


def test_nodes_that_do_not_share_the_folder_are_named():
    check_shared([node("a"), node("b")], "runs/x", "/home")
    for facts, said in (
        ({"reads": False}, "Node b cannot see runs/x"),
        ({"writes": False}, "Node b cannot write to runs/x"),
        ({"start": False}, "Node b has no folder /home"),
    ):
        with pytest.raises(UserError, match=said):
            check_shared([node("a"), node("b", **facts)], "runs/x", "/home")


def test_a_node_tells_whether_it_sees_the_folder(tmp_path):
    probe = tmp_path / ".probe-1"
    ask = look(["torch", "no-such-package"])
    assert not NodeFacts(*ask(str(probe), str(tmp_path / "nowhere"))).reads
    probe.write_text(".probe-1")
    facts = NodeFacts(*ask(str(probe), str(tmp_path)))
    assert (facts.reads, facts.writes, facts.start) == (True, True, True)
    assert facts.versions["no-such-package"] == "none"
    assert len(facts.versions[CODE]) == 12
    assert not NodeFacts(*ask(str(probe), str(tmp_path / "nowhere"))).start
    probe.write_text("another cluster's")
    assert not NodeFacts(*ask(str(probe), str(tmp_path))).reads


def test_room_is_counted_node_by_node():
    three = ResourcesConfig(cpus=3.0)
    assert room([node(cpus=4), node(cpus=4)], three) == 2  # not the 2.67 of all together
    assert room([node(cpus=16, gpus=1)], ResourcesConfig(gpus=0.25)) == 4
    assert room([node(cpus=2, gpus=8)], ResourcesConfig(gpus=1.0)) == 2
    assert room([node(cpus=1)], ResourcesConfig(cpus=0.1)) == 10
    assert wanted([node(cpus=4)], ResourcesConfig()) == 4
    assert wanted([node(cpus=4)], ResourcesConfig(workers=3)) == 3
    for resources in (ResourcesConfig(gpus=1.0), ResourcesConfig(cpus=5.0), ResourcesConfig(workers=5)):
        with pytest.raises(UserError, match=r"were asked for, and there is room for .* \(a: 4 CPUs, 0 GPUs\)"):
            wanted([node(cpus=4)], resources)


def test_two_processes_may_write_the_same_file_at_a_time(tmp_path):
    path = tmp_path / "unit.json"
    try:
        parts_named("one")
        with writing(path) as first:
            first.write_text("1")
            parts_named("other")
            write_json(path, 2)
            assert first.read_text() == "1"
        assert path.read_text() == "1"
        killed = tmp_path / "deeper" / ".unit.json.one.part"
        killed.parent.mkdir()
        killed.touch()
        remove_parts(tmp_path)
        assert sorted(p.name for p in tmp_path.rglob("*")) == ["deeper", "unit.json"]
    finally:
        parts_named("")


def test_a_damaged_file_is_told_of_across_processes():
    error = pickle.loads(pickle.dumps(DamagedError(Path("a/b.npz"), "truncated")))
    assert isinstance(error, DamagedError)
    assert error.path == Path("a/b.npz")
    assert "a/b.npz is damaged (truncated)" in str(error)


def _things(session: Session, n: int) -> torch.Tensor:
    return torch.full((n,), 2.5)


@unchecked
def test_what_every_worker_has_of_its_own_is_not_sent(session, finished):
    pytest.importorskip("ray")
    other = Session(session.config, session.folder)
    other.model, other.saes = session.model, session.saes
    layer = other.saes.layers[0]
    edit = removal(other.model, other.saes.restricted({layer: [0, 1]}), {layer: [0, 1]})[layer]
    made = other.made(_things, 100_000)

    def function(x: torch.Tensor) -> object:
        return other, other.model, other.saes, other.saes[layer], made, edit(x)

    data = sent(function, other)
    assert len(data) < 60_000
    mine, model, saes, sae, things, edited = received(data, session)(torch.ones(2, other.model.d_model))
    assert mine is session
    assert model is session.model
    assert saes is session.saes
    assert sae is session.saes[layer]
    assert torch.equal(things, made) and things is not made
    assert torch.equal(edited, edit(torch.ones(2, other.model.d_model)))


def test_processes_of_a_run_find_what_another_has_captured(session, tmp_path, monkeypatch):
    texts = [e.text for _, e in session.examples][:5]
    (tmp_path / "small").mkdir()
    folder = RunFolder.open(tmp_path / "small", "small")

    def process() -> Session:
        one = Session(session.config, folder)
        one.model = session.model
        one.shared.share_captures(folder.path)
        return one

    captured = process().captured(texts)
    monkeypatch.setattr("interp.run.session.capture", None)
    again = process().captured(texts)
    assert torch.equal(again.residuals, captured.residuals)
    with pytest.raises(TypeError):
        process().captured([e.text for _, e in session.examples][-5:])
    remove_scratch(folder.path)
    assert not list(folder.path.rglob("*.safetensors"))


@pytest.mark.parametrize("n", [1, 24, 60, 600])
def test_there_is_work_for_many_workers_before_much_is_computed_together(session, monkeypatch, n):
    texts = [f"text {i}" for i in range(n)]
    monkeypatch.setattr(session, "_sizes", lambda texts: [10] * len(texts))
    monkeypatch.setattr(Session, "tokens_per_batch", 20)
    sizes = [len(chunk) for chunk in session.chunks(texts)]
    assert sizes == {1: [1], 24: [2] * 12, 60: [5] * 12, 600: [8] * 75}[n]


# ------------------------------------------------------------------------------------ on Ray


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each, and this process on the first."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'interp[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        made.second = made.add_node(**small)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def engine(monkeypatch):
    """The engine of the run under way."""
    from interp.run import ray_engine

    found: list[ray_engine.RayEngine] = []
    original = ray_engine.RayEngine._loaded

    def noted(self: ray_engine.RayEngine) -> None:
        found.append(self)
        original(self)

    monkeypatch.setattr(ray_engine.RayEngine, "_loaded", noted)
    return found


@unchecked
@on_ray
def test_two_nodes_write_the_same_files_and_go_on_where_a_worker_was_killed(world, finished, tmp_path, cluster, engine):
    """Both workers compute, each on its own node; one is killed in the middle of a stage, and a unit with it."""
    import ray

    killed: list[int] = []

    def say(line: str) -> None:
        if line.split(",")[0] in ("trace", "baselines"):
            killed.append(ray.get(engine[0].actors[1].process.remote()))  # before the stage: behind it, it would wait
            threading.Timer(0.1, os.kill, (killed[-1], signal.SIGKILL)).start()

    outcome = pipeline.run(load_config(world / "small.yaml", {"out": str(tmp_path), **TWO}), say=say)
    assert len({node.id for node in engine[0].nodes}) == 2
    assert engine[0].workers == 2
    assert len(set(killed)) == 2
    assert contents(outcome.folder) == contents(finished)


@unchecked
@on_ray
def test_a_sweep_keeps_its_workers_and_writes_what_one_process_writes(world, tmp_path, cluster, engine, monkeypatch):
    """Over three runs, of which the last has other SAEs; and one of the workers is lost between the first two."""
    import ray

    from interp.run import ray_engine

    class Telling(ray_engine.Worker):
        def loaded(self):
            session = self._session[1]
            return os.getpid(), session.folder.path.name, id(session.model), id(session.saes)

    monkeypatch.setattr(ray_engine, "Worker", Telling)
    told: dict[str, list[tuple]] = {}
    run_one = pipeline.run

    def noted(config, **options):
        done = run_one(config, **options)
        if config.engine != "local":
            told[config.name] = [ray.get(actor.loaded.remote()) for actor in engine[-1].actors]
            if config.name == "first":
                os.kill(told["first"][1][0], signal.SIGKILL)
        return done

    monkeypatch.setattr(pipeline, "run", noted)
    runs = {"first": {"seed": 0}, "second": {"tracing.candidates": 3}, "third": {"saes.layers": [1, 2]}}
    tree = {"base": str(world / "small.yaml"), "grid": {"as": runs}, "name": "{as}", "command": "trace"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**tree, "out": str(tmp_path / "alone")}))
    alone = run_sweep(load_sweep(tmp_path / "sweep.yaml"))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**tree, "out": str(tmp_path / "on ray")}))
    on_ray = run_sweep(load_sweep(tmp_path / "sweep.yaml", TWO))

    for name, one in on_ray.outcomes.items():
        assert contents(one.folder) == contents(alone.outcomes[name].folder), name
        assert one.taken.keys() == alone.outcomes[name].taken.keys()
    assert len({id(one) for one in engine}) == 1, "workers were started for each run"
    assert {name: {at for _, at, *_ in two} for name, two in told.items()} == {name: {name} for name in runs}
    (kept, lost), (second, instead), (third, also) = told.values()
    assert kept[0] == second[0] == third[0] and lost[0] != instead[0] == also[0]
    assert kept[2] == second[2] == third[2] and instead[2] == also[2], "the model was loaded again"
    assert kept[3] == second[3] != third[3]
    assert list((tmp_path / "on ray/.shared/store").glob("*/*.safetensors")), "no capture is kept for other runs"
    assert not list((tmp_path / "on ray").rglob("scratch_*"))


def test_the_command_of_a_sweep_has_a_cluster_of_its_own(world, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'interp[ray]'")
    tree = {"base": str(world / "small.yaml"), "grid": {"seed": [0, 1]}, "name": "{seed}", "command": "trace"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**tree, "out": str(tmp_path / "alone")}))
    alone = run_sweep(load_sweep(tmp_path / "sweep.yaml"))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**tree, "out": str(tmp_path / "on ray")}))
    done = shell(
        "sweep",
        str(tmp_path / "sweep.yaml"),
        *(word for key, value in ON_TWO.items() for word in (f"--{key}", value)),
        cwd=Path.cwd(),
    )
    assert done.returncode == 0, done.stderr
    assert "ray: 2 workers on 1 nodes" in done.stderr
    for name, one in alone.outcomes.items():
        assert contents(tmp_path / "on ray" / name) == contents(one.folder), name


@unchecked
@on_ray
def test_a_lost_node_is_told_of_and_the_run_goes_on_without_ray(
    world, finished, tmp_path, cluster, engine, monkeypatch
):
    from interp.run import ray_engine

    monkeypatch.setattr(ray_engine, "PATIENCE", 3.0)

    def say(line: str) -> None:
        if line.split(",")[0] == "trace":
            cluster.remove_node(cluster.second, allow_graceful=False)

    config = load_config(world / "small.yaml", {"out": str(tmp_path), **TWO})
    with pytest.raises(UserError, match="What is finished is kept: give the same command again"):
        pipeline.run(config, say=say)
    again = start(world, tmp_path)
    assert "capture" in again.skipped
    assert contents(again.folder) == contents(finished)


@on_ray
def test_a_worker_that_cannot_load_the_model_and_too_many_workers_are_one_line(world, tmp_path, cluster, monkeypatch):
    with pytest.raises(UserError, match="3 workers with 1 CPUs each were asked for, and there is room for 2"):
        start(world, tmp_path, engine="auto", **{"resources.workers": "3"})
    with pytest.raises(UserError, match="1 CPUs and 1 GPUs each were asked for, and there is room for 0"):
        start(world, tmp_path, engine="auto", **{"resources.gpus": "1"})
    from interp.run import ray_engine

    class Elsewhere(ray_engine.Worker):
        def session(self, inputs):
            raise UserError("No model 'x' here.")

    monkeypatch.setattr(ray_engine, "Worker", Elsewhere)
    with pytest.raises(UserError, match=r"^No model 'x' here\.$"):
        start(world, tmp_path, engine="auto")
    assert not list(tmp_path.rglob(".probe*"))


MOCK_SRUN = """#!{python}
import os, subprocess, sys
from ray.cluster_utils import Cluster
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

words = sys.argv[1:]
begin = words.index("ray")
assert words[begin + 1] == "symmetric-run" and "--nodes=2" in words[:begin] and "--ntasks=2" in words[:begin], words
words = words[begin + 2 :]
split = words.index("--")
params = symmetric_run.make_context("_", words[:split], resilient_parsing=True).params
assert params["min_nodes"] == 2 and params["address"].startswith("node1:"), params
of_node = start.make_context("start", curate_and_validate_ray_start_args(words[:split])).params
assert (of_node["num_cpus"], of_node["num_gpus"]) == (1, 0), of_node
small = {{"num_cpus": of_node["num_cpus"], "object_store_memory": 100 * 2**20}}
cluster = Cluster(initialize_head=True, head_node_args={{**small, "include_dashboard": False}})
try:
    cluster.add_node(**small)
    cluster.wait_for_nodes()
    status = subprocess.run(words[split + 1 :], env={{**os.environ, "RAY_ADDRESS": cluster.address}}).returncode
finally:
    cluster.shutdown()
sys.exit(status)
"""


@unchecked
@on_ray
def test_the_slurm_script_runs_on_two_nodes(world, finished, tmp_path):
    """`srun` is a stand-in that takes `ray symmetric-run` at its word, with two nodes of Ray on this machine."""
    import subprocess
    import sys

    pytest.importorskip("ray", reason="Ray is not installed: pip install 'interp[ray]'")
    script = Path(__file__).parents[1] / "experiments" / "clusters" / "ray.sbatch"
    commands = {
        "srun": MOCK_SRUN.format(python=sys.executable),
        "scontrol": '#!/bin/bash\n[ "$*" = "show hostnames node[1-2]" ] && printf "node1\\nnode2\\n"\n',
        "interp": f'#!/bin/bash\nexec {sys.executable} -m interp.cli "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"JOB_NODELIST": "node[1-2]", "JOB_NUM_NODES": "2", "JOB_ID": "70001", "CPUS_PER_TASK": "1"}
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in slurm.items()}}
    environment |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
    words = ["bash", script, world / "small.yaml", "--out", tmp_path / "runs"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("report.html")
    assert contents(tmp_path / "runs" / "small") == contents(finished)
    none = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert none.returncode
    assert "usage: sbatch ray.sbatch CONFIG.yaml" in none.stderr
