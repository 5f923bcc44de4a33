"""The one thread that passes the model: it takes waiting texts into the batch and brings all of them on."""

import threading
from collections import deque

from interp.engine.capture import tokens_in_flight
from interp.serving.refusals import RefusedError
from interp.serving.texts import RequestText
from interp.steering.rolling import RollingBatch


class Writer:
    """Texts in the order in which they came, `most` of them at a time.

    Attributes:
        most: texts that are written together.
        waiting_room: texts that may wait; more are refused.
    """

    def __init__(self, batch: RollingBatch[RequestText], *, most: int = 16, waiting_room: int = 1024) -> None:
        self.batch, self.most, self.waiting_room = batch, most, waiting_room
        self._waiting: deque[RequestText] = deque()
        self._joining: list[RequestText] = []
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="interp-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    @property
    def busy(self) -> int:
        """Texts that are written or wait."""
        return len({id(text) for text in (*self._waiting, *self._joining, *self.batch.texts)})

    def put(self, texts: list[RequestText]) -> None:
        """
        Raises:
            RefusedError: too many wait already, or the server is being shut down.
        """
        with self._news:
            if self._closed:
                raise RefusedError("The server is shutting down.", status=503, code="shutting_down")
            if len(self._waiting) + len(texts) > self.waiting_room:
                raise RefusedError(
                    f"{len(self._waiting)} texts are waiting, {self.waiting_room} may; try again later.",
                    status=429,
                    code="rate_limit_exceeded",
                )
            self._waiting.extend(texts)
            self._news.notify()

    def close(self) -> None:
        """Ends the thread; texts under way are given up."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while True:
            with self._news:
                while not (self._closed or self._waiting or self.batch.texts):
                    self._news.wait()
                if self._closed:
                    break
                new = self._joining = self._next()
            gone = [text for text in self.batch.texts if text.given_up]
            try:
                if gone:
                    self.batch.leave(gone)
                if self.batch.texts:
                    self.batch.step()
                if new:
                    self.batch.join(new)
            except Exception as error:
                self._fail(new, error)
            self._joining = []
        refused = RefusedError("The server is shutting down.", status=503, code="shutting_down")
        self._fail([*self._waiting], refused)

    def _next(self) -> list[RequestText]:
        """Waiting texts that find room: in the batch, and their prompts in one pass."""
        new: list[RequestText] = []
        width = 0
        while self._waiting and len(self.batch.texts) + len(new) < self.most:
            text = self._waiting[0]
            width = max(width, len(text.ids))
            if new and width * (len(new) + 1) > tokens_in_flight(self.batch.model):
                break
            self._waiting.popleft()
            if not text.given_up:
                new.append(text)
        return new

    def _fail(self, new: list[RequestText], error: Exception) -> None:
        """All that was under way is told, and the batch begins anew: none of it can be trusted."""
        for text in {id(text): text for text in (*self.batch.texts, *new)}.values():
            text.tell(error)
        self.batch.clear()
