"""A worker of a run on Ray: a process with the model and the SAEs, which computes units for another one.

What travels between the two is pickled by Ray's own cloudpickle, but for what every worker has of its own: the
session, its model, its SAEs and what the session has made (`Session.held`). These are named and not sent.
"""

import io
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from interp.run.inputs import Inputs
    from interp.run.session import Session
    from interp.run.shared import Shared

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Job(NamedTuple):
    """What is to be computed: a function, and its items."""

    function: Callable[[Any], Any]
    items: Sequence[Any]


class Given(NamedTuple):
    """The run that a worker computes for; it comes with every call, since the worker may have been lost before it.

    Attributes:
        name: tells it from the runs before it.
        folder: of the run, shared by all.
        inputs: a reference, in a list, to what the run reads, as the process that sends work has read it.
        common: folder of what it has in common with other runs, and the bytes it may take there; None: nothing.
    """

    name: str
    folder: str
    inputs: Sequence[Any]
    common: tuple[str, int] | None = None


class Readiness(NamedTuple):
    """What a worker has loaded; it has to be what the process has that sends it work.

    Attributes:
        device: its type.
        model, saes: their identities.
        frame: words of the chat template around a prompt.
    """

    device: str
    dtype: str
    model: str
    saes: str
    frame: str | None


def readiness(session: "Session") -> Readiness:
    """Of this process; loads the model and the SAEs."""
    model = session.model
    frame = model.frame if model.chat else None
    return Readiness(model.device.type, str(model.dtype), model.identity, session.saes.identity, frame)


def sent(value: Any, session: "Session") -> bytes:
    """A value for the workers of a session."""
    from ray.cloudpickle import CloudPickler
    from torch.nn import Module

    held, layer_of = session.held(), session.saes.layer_of if "saes" in vars(session) else {}

    class Pickler(CloudPickler):  # type: ignore[misc]
        def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
            if isinstance(obj, Module) and obj in layer_of:
                return "sae", layer_of[obj]
            return held.get(id(obj))

    file = io.BytesIO()
    Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def received(data: bytes, session: "Session") -> Any:
    """What was `sent`, with this process's own session, model and SAEs in it."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, path: tuple[Any, ...]) -> Any:
            return session.reached(path)

    return Unpickler(io.BytesIO(data)).load()


@dataclass
class Worker:
    """The process itself; Ray makes it, and makes it again where it was lost.

    Model and SAEs stay loaded from one run to the next that has the same.

    Attributes:
        threads: that it computes with.
        start: folder in which the command was given; relative paths begin there.
    """

    threads: int
    start: str

    def __post_init__(self) -> None:
        os.environ.update(dict.fromkeys(THREADS, str(self.threads)))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.chdir(self.start)
        self._shared: Shared | None = None
        self._session: tuple[str, Session] | None = None
        self._job: tuple[str, Job] | None = None

    def ready(self, given: Given) -> Readiness:
        """Loads what it computes with.

        Raises:
            UserError: the model or the SAEs are not here, or do not fit into memory.
        """
        return readiness(self.session(given))

    def unit(self, given: Given, name: str, job: Sequence[Any], place: int) -> bytes:
        """What the job's function makes of one of its items, pickled.

        Args:
            name: of the job.
            job: a reference to it, as it was `sent`.
        """
        import ray

        if self._job is None or self._job[0] != name:
            self._job = name, received(ray.get(job[0]), self.session(given))
        function, items = self._job[1]
        return bytes(ray.cloudpickle.dumps(function(items[place])))

    def process(self) -> int:
        """Its number on its machine."""
        return os.getpid()

    def end(self) -> None:
        """Takes away what it has put on disk for itself."""
        if self._shared is not None:
            self._shared.close()

    def session(self, given: Given) -> "Session":
        """Of this process: the same run, in the same folder."""
        if self._session is None or self._session[0] != given.name:
            import warnings

            import ray

            warnings.filterwarnings("ignore")  # the process that sends work has said what is to be said
            from interp.files.folder import RunFolder, parts_named
            from interp.processors import compute_with
            from interp.run.session import Session
            from interp.run.shared import Shared

            known: Inputs = ray.get(given.inputs[0])
            parts_named(f"{ray.get_runtime_context().get_actor_id()[:8]}-{os.getpid()}")
            if self._shared is None:
                folder, budget = given.common or (None, 0)
                self._shared = Shared(None if folder is None else Path(folder), budget=budget)
            self._session = self._job = None  # two runs at a time may not fit
            self._shared.share_captures(Path(given.folder))
            session = Session(known.config, RunFolder(Path(given.folder)), shared=self._shared)
            vars(session).update(vars(known))
            self._session = given.name, session
            compute_with(self.threads)
        return self._session[1]


def options(cpus: float, gpus: float, restarts: int, retries: int) -> Mapping[str, Any]:
    """What Ray is told of a worker; where it runs, and what happens when it is lost, is Ray's to see to."""
    return {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "max_restarts": restarts,
        "max_task_retries": retries,
        "scheduling_strategy": "SPREAD",
    }
