"""Ray as the engine of a run: its actors compute the units, and it sees to placement, restarts and retries."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from interp.errors import UserError
from interp.files.folder import remove_parts
from interp.run.engines import Item, Result, placed, threads
from interp.run.ray_nodes import Node, NodeFacts, check_alike, check_shared, look, room, wanted
from interp.run.ray_worker import Given, Readiness, Worker, options, readiness, sent
from interp.run.shared import scratch_captures

if TYPE_CHECKING:
    from interp.run.config import Config
    from interp.run.session import Session

RESTARTS, RETRIES = 100, 20
"""How often Ray starts a worker again that was lost, and how often a unit that it was lost with."""
PATIENCE = 120.0
"""Seconds without a result after which it is looked whether there still is room for all workers."""
LEAVE = 5.0
"""Seconds that workers have to end by themselves."""
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
"""No statistics to Ray's makers; and a worker without a GPU of its own sees none."""


class RayEngine(AbstractContextManager["RayEngine"]):
    """Workers on a Ray cluster. One job is computed at a time; the process that sends it waits.

    They may serve one run after the other (`serve`), and keep model and SAEs where the next has the same.

    Attributes:
        n_workers: how many there are.
    """

    def __init__(self, session: "Session", say: Callable[[str], None] = lambda line: None) -> None:
        """Connects, looks at every node, and starts the workers, which load the model and the SAEs.

        Raises:
            UserError: no cluster, other versions on a node, a folder that a node does not see, less room than was
                asked for, or a worker that cannot load what it needs.
        """
        import ray

        self.session, config, folder = session, session.config, session.folder.path
        self.started = not ray.is_initialized()
        if self.started:
            connect(config)
        try:
            self.nodes, self._seen = _nodes(folder), folder.parent
            self.n_workers = wanted(self.nodes, config.resources)
            say(f"{config.engine}: {self.n_workers} workers on {len(self.nodes)} nodes")
            self.actors = self._actors()
            self.serve(session)
        except BaseException:
            self.close()
            raise

    def serve(self, session: "Session") -> None:
        """From now on works for this session; the workers load what they do not have yet.

        Raises:
            UserError: a node that does not see its folder, or a worker that cannot load what it needs.
        """
        import ray

        folder, shared = session.folder.path, session.shared
        if folder.parent != self._seen:
            self.nodes, self._seen = _nodes(folder), folder.parent
        self._tidy()
        self.session = session
        shared.share_captures(folder)
        common = None if shared.folder is None else (str(shared.folder.absolute()), shared.budget)
        self.given = Given(uuid4().hex, str(folder.absolute()), [ray.put(self._inputs())], common)
        self._loaded()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the workers go, and the cluster, if it was started for this run."""
        import ray

        actors = vars(self).get("actors", ())
        with suppress(Exception):  # Ray may be gone already, or a worker still at a unit that nobody waits for
            ray.get([actor.end.remote() for actor in actors], timeout=LEAVE)
        for actor in actors:
            with suppress(Exception):
                ray.kill(actor)
        if self.started:
            ray.shutdown()
        self._tidy()

    def _tidy(self) -> None:
        """Takes away what workers may have left in the folder of the run."""
        folder = self.session.folder.path
        remove_parts(folder)
        shutil.rmtree(scratch_captures(folder), ignore_errors=True)

    @property
    def workers(self) -> int:
        return self.n_workers

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, shares: Sequence[float] | None = None
    ) -> Iterator[Result]:
        """What a function makes of every item, in their order (see `Engine.map`).

        Raises:
            UserError: a worker is lost for good; and whatever the function raises.
        """
        import ray
        from ray.util import ActorPool

        if not len(items):
            return
        name, job = uuid4().hex, ray.put(sent((function, list(items)), self.session))

        def submit(actor: Any, place: int) -> Any:
            return actor.unit.remote(self.given, name, [job], place)

        places = range(len(items))
        if shares is None:
            pool = ActorPool(self.actors)
            for place in places:
                pool.submit(submit, place)
            found = (partial(pool.get_next, timeout=PATIENCE) for _ in places)
        else:
            chosen = placed(shares, len(self.actors))
            waiting = [submit(self.actors[worker], place) for place, worker in zip(places, chosen, strict=True)]
            found = (partial(ray.get, one, timeout=PATIENCE) for one in waiting)
        for get in found:
            value: Result = pickle.loads(self._waited(get))
            yield value

    def _waited(self, get: Callable[[], Any]) -> Any:
        """A result when it is there; as long as it is not, it is looked whether it can still come."""
        import ray
        from ray.exceptions import GetTimeoutError

        while True:
            try:
                return _told(get)
            except (GetTimeoutError, TimeoutError):
                alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
                left = [node for node in self.nodes if node.id in alive]
                if len(left) < len(self.nodes) and room(left, self.session.config.resources) < self.workers:
                    gone = ", ".join(sorted(node.name for node in self.nodes if node.id not in alive))
                    raise UserError(
                        f"Lost {gone}, and what is left has no room for {self.workers} workers. What is finished is"
                        " kept: give the same command again."
                    ) from None

    def _actors(self) -> list[Any]:
        import ray

        resources = self.session.config.resources
        kind = ray.remote(**options(resources.cpus or 1.0, resources.gpus, RESTARTS, RETRIES))(Worker)
        return [kind.remote(threads(resources), str(Path.cwd())) for _ in range(self.n_workers)]

    def _inputs(self) -> Any:
        """What the run reads, as far as it has been read; a worker does not look for it again."""
        from interp.run.inputs import Inputs

        session = self.session
        _ = session.examples, session.anchors, session.rated, session.shots, session.plain_documents
        inputs = Inputs(session.config)
        own = {name for name in dir(Inputs) if not name.startswith("__")}
        vars(inputs).update({name: value for name, value in vars(session).items() if name in own})
        return inputs

    def _loaded(self) -> None:
        """Every worker has loaded what this process has.

        Raises:
            UserError: one cannot, or has something else.
        """
        import ray

        loading = [actor.ready.remote(self.given) for actor in self.actors]
        here = readiness(self.session)
        for one in loading:
            there: Readiness = self._waited(partial(ray.get, one, timeout=PATIENCE))
            for what, mine, its in zip(Readiness._fields, here, there, strict=True):
                if mine != its:
                    raise UserError(
                        f"A worker has the {what} {its!r} and this process {mine!r}: their numbers would not be alike."
                        f" {_remedy(what)}"
                    )


def _remedy(what: str) -> str:
    if what in ("device", "dtype"):
        return "Give --resources.gpus 1 for workers on a GPU, or --device cpu for all."
    return "Give all nodes the same files, best in a folder that they share."


def connect(config: "Config") -> None:
    """To the cluster that the configuration names, or to a new one on this machine.

    Raises:
        UserError: there is none, or it has another version of Ray or Python.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    quiet: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    address = {"ray": "local"}.get(config.engine, config.engine)
    try:
        if address == "local":
            from interp.processors import available_cores

            ray.init(address=address, num_cpus=available_cores(), include_dashboard=_has_dashboard(), **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # whatever Ray raises where it finds no cluster, or another one than it expects
        said = " ".join(str(error).split())
        if "ersion mismatch" in said:
            raise UserError(f"engine {config.engine}: {said[:300]} Install the same versions on all nodes.") from None
        start = " Start one with `ray start --head`, or give --engine ray." if address == "auto" else ""
        raise UserError(f"engine {config.engine}: no Ray cluster could be reached ({said[:160]}).{start}") from None


def _has_dashboard() -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("aiohttp", "aiohttp_cors", "prometheus_client"))


def _told(get: Callable[[], Any]) -> Any:
    """A result, or what a worker raised, as if it had been raised here.

    Raises:
        UserError: a worker is lost for good.
    """
    from ray.exceptions import (
        GetTimeoutError,
        LocalRayletDiedError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayActorError,
        RayTaskError,
        WorkerCrashedError,
    )

    try:
        return get()
    except GetTimeoutError:
        raise
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError):
            raise cause from None
        raise cause if isinstance(cause, Exception) else error from error
    except OutOfMemoryError:
        raise UserError(
            "A worker was ended because its node ran out of memory. Give fewer --resources.workers, or a smaller"
            " --batch_size; what is finished is kept."
        ) from None
    except (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, LocalRayletDiedError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"A worker was lost, and could not be started again ({said}). What is finished is kept: give the same"
            " command again."
        ) from None


def _nodes(folder: Path) -> list[Node]:
    """The nodes of the cluster, all alike, and all with the folder of the run.

    Raises:
        UserError: they are not, or one does not answer.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    probe, start = folder.absolute() / f".probe-{uuid4().hex}", str(Path.cwd())
    ask = ray.remote(num_cpus=0, max_retries=1)(look())
    try:
        probe.write_text(probe.name, encoding="utf-8")
        here = NodeFacts(*look()(str(probe), start))
        asked = [
            ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(probe), start
            )
            for node in alive
        ]
        said = [NodeFacts(*ray.get(one, timeout=PATIENCE)) for one in asked]
    except (TimeoutError, RayError) as error:
        raise UserError(
            f"A node of the Ray cluster does not answer ({type(error).__name__}); look at `ray status`."
        ) from None
    finally:
        probe.unlink(missing_ok=True)
    nodes = [Node.of(node, facts) for node, facts in zip(alive, said, strict=True)]
    check_alike(nodes, here.versions)
    check_shared(nodes, str(folder), start)
    return nodes
