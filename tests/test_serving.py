"""The endpoint over HTTP, in the wire format of OpenAI's clients: the library's own tokens, whoever else asks."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
import transformers as tf
from steerings import additive_steering, mixed_steering
from tiny_models import build_model, build_sae

pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'interp[serve]'")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")

from interp.errors import UserError  # noqa: E402
from interp.run.steerable import Steerable  # noqa: E402
from interp.saes.stack import SaeStack  # noqa: E402
from interp.serving.app import build_app  # noqa: E402
from interp.serving.serving import listening  # noqa: E402
from interp.steering import Steering  # noqa: E402
from interp.steering.generating import stream  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
PROMPTS = ["The dog ran", "A letter came in the morning and", "Rain", "My friend lost the cat, and then, late in the"]


@dataclass
class Server:
    steerable: Steerable
    address: str
    app: object

    def post(self, path: str, **body):
        return httpx.post(f"{self.address}/v1/{path}", json={"model": "small", **body}, timeout=60)

    def text(self, **body) -> str:
        reply = self.post("completions", **body)
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]["text"]

    def library(self, prompt: str, steering: Steering | None = None, tokens: int = 12, **options) -> str:
        """What the library writes by itself."""
        found = [""]
        found += stream(
            self.steerable.model, prompt, steering or Steering("none"), self.steerable.saes, tokens=tokens, **options
        )
        return found[-1]


@pytest.fixture(scope="module")
def steerable(tokenizer, tmp_path_factory):
    chatting = tf.AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    chatting.chat_template = TEMPLATE
    model = build_model("gemma3", chatting)
    saes = SaeStack({layer: build_sae(seed=layer) for layer in range(4)}, "test", "test:saes")
    made = Steerable(
        tmp_path_factory.mktemp("run"), model, saes, {"joy": additive_steering(), "fear": mixed_steering()}
    )
    facts = {"saes": {"name": "test"}}
    own = mixed_steering("answer")
    own = Steering(own.method, own.gains, own.vectors, own.gates, "answer", facts)
    mixed = made._whole["fear"]
    made._whole["fear"] = Steering("fear", mixed.gains, mixed.vectors, mixed.gates, "all", facts)
    vars(made).update(emotions=["fear", "joy"], own=own)
    return made


@pytest.fixture(scope="module")
def server(steerable):
    app = build_app(steerable, name="small", most=8, waiting_room=600)
    running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with listening("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        for _ in range(200):
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield Server(steerable, address, app)
        running.should_exit = True
        thread.join()


def joy(server, strength: float) -> Steering:
    return server.steerable.steering("joy", strength)


def test_what_can_be_asked_for(server):
    listed = httpx.get(f"{server.address}/v1/models").json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == ["small", "small:steered", "small:fear", "small:joy"]
    assert httpx.get(f"{server.address}/v1/models/small:joy").json()["steering"] == {"emotion": "joy"}
    assert httpx.get(f"{server.address}/v1/models/big").status_code == 404
    assert httpx.get(f"{server.address}/health").json()["status"] == "ok"


def test_a_completion_is_the_librarys_plain_and_steered(server):
    for prompt in PROMPTS:
        plain = server.text(prompt=prompt, max_tokens=12, temperature=0)
        assert plain == server.library(prompt, chat=False)
        steering = {"emotion": "joy", "strength": 1.5}
        steered = server.text(prompt=prompt, max_tokens=12, temperature=0, steering=steering)
        assert steered == server.library(prompt, joy(server, 1.5), chat=False)
        assert steered != plain
        own = server.text(prompt=prompt, max_tokens=12, temperature=0, steering={})
        assert own == server.library(prompt, server.steerable.steering(positions="generated"), chat=False)


def test_every_decoded_token_has_the_librarys_probability(server):
    """Log-probabilities of a whole text under the steering, from one pass over it."""
    model = server.steerable.model
    for emotion in ("joy", "fear"):
        asked = {"emotion": emotion, "strength": 0.7}
        reply = server.post(
            "completions", prompt="The dog ran", max_tokens=10, temperature=1, seed=3, logprobs=2, steering=asked
        )
        told = reply.json()["choices"][0]["logprobs"]
        ids = model.ids("The dog ran", chat=False)
        found = list(stream_ids(server, ids, server.steerable.steering(emotion, 0.7), 10, seed=3))
        with server.steerable.steering(emotion, 0.7).applied(model, server.steerable.saes), torch.no_grad():
            logs = model.hf(torch.tensor([ids + found])).logits[0].float().log_softmax(-1)
        expected = [float(logs[len(ids) - 1 + k, token]) for k, token in enumerate(found)]
        assert told["token_logprobs"] == pytest.approx(expected, abs=1e-3)
        assert len(told["top_logprobs"][0]) == 2
        assert "".join(told["tokens"]) == reply.json()["choices"][0]["text"]


def stream_ids(server, ids, steering, tokens, seed):
    from interp.steering.generating import drawn

    model, saes = server.steerable.model, server.steerable.saes
    generator = torch.Generator().manual_seed(seed)
    written = []
    with steering.applied(model, saes), torch.no_grad():
        for _ in range(tokens):
            token = drawn(model.hf(torch.tensor([ids + written])).logits[0, -1].float(), 1.0, generator)
            if token in model.end_ids:
                return
            written.append(token)
            yield token


def test_chat_is_the_librarys_chat(server):
    said = [{"role": "user", "content": "Where is the cat?"}]
    reply = server.post("chat/completions", messages=said, max_completion_tokens=8, temperature=0).json()
    assert reply["object"] == "chat.completion"
    message = reply["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert message["content"] == server.library("Where is the cat?", tokens=8, chat=True)
    ids = server.steerable.model.ids("Where is the cat?", chat=True)
    assert reply["usage"]["prompt_tokens"] == len(ids)
    longer = [{"role": "system", "content": "Be brief."}, *said, {"role": "assistant", "content": "Out."}, said[0]]
    assert server.post("chat/completions", messages=longer, max_tokens=4).status_code == 200
    by_name = server.post("chat/completions", model="small:joy", messages=said, max_tokens=8, temperature=0).json()
    gentle = server.library("Where is the cat?", joy(server, 0.4), tokens=8, chat=True)
    assert by_name["choices"][0]["message"]["content"] == gentle


def events(reply) -> list[dict]:
    lines = [line for line in reply.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_a_stream_is_the_same_text_in_pieces(server):
    body = {
        "model": "small",
        "max_tokens": 12,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    steering = {"emotion": "joy", "strength": 1}
    with httpx.stream(
        "POST", f"{server.address}/v1/completions", json={**body, "prompt": "Rain", "steering": steering}, timeout=60
    ) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        told = events(reply)
    text = "".join(c["choices"][0]["text"] for c in told[:-1])
    assert text == server.library("Rain", joy(server, 1), chat=False)
    assert told[-1]["usage"]["completion_tokens"] == 12
    assert told[-2]["choices"][0]["finish_reason"] == "length"
    said = [{"role": "user", "content": "Rain"}]
    with httpx.stream(
        "POST", f"{server.address}/v1/chat/completions", json={**body, "messages": said}, timeout=60
    ) as reply:
        told = events(reply)
    assert told[0]["object"] == "chat.completion.chunk"
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in told[:-1])
    assert text == server.library("Rain", chat=True)


def test_stops_several_choices_and_seeds(server):
    whole = server.text(prompt="Rain", max_tokens=12, temperature=0)
    middle = whole[len(whole) // 2 :][:3]
    reply = server.post("completions", prompt="Rain", max_tokens=12, temperature=0, stop=[middle]).json()["choices"][0]
    assert reply["text"] == whole[: whole.index(middle)]
    assert reply["finish_reason"] == "stop"
    asked = {"prompt": ["Rain", "The dog"], "n": 2, "max_tokens": 6, "seed": 5}
    first, again = (server.post("completions", **asked).json() for _ in range(2))
    texts = [c["text"] for c in first["choices"]]
    assert [c["index"] for c in first["choices"]] == [0, 1, 2, 3]
    assert texts == [c["text"] for c in again["choices"]]
    assert texts[0] != texts[1]
    assert texts[0] == server.library("Rain", tokens=6, temperature=1.0, seed=5, chat=False)
    ids = server.steerable.model.ids("Rain", chat=False)
    assert server.text(prompt=ids, max_tokens=12, temperature=0) == whole


def test_mixed_requests_at_once_are_each_as_alone(server):
    """Plain and steered, short and long, six strengths: what shares a batch leaves no trace."""
    asked = [
        {
            "prompt": PROMPTS[i % 4],
            "max_tokens": 4 + i % 9,
            "temperature": (0, 0.9)[i % 2],
            "seed": i,
            "steering": (None, {"emotion": "joy", "strength": 0.3 * (i % 6)}, {"emotion": "fear"}, {})[i % 4],
        }
        for i in range(48)
    ]
    alone = [server.text(**body) for body in asked]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda body: server.text(**body), asked))
    assert together == alone
    assert len(set(alone)) > 20


def test_five_hundred_requests(server):
    """Each equal to its like, none lost, and nothing left behind."""
    kinds = [
        {"prompt": prompt, "max_tokens": 3, "temperature": 0, "steering": steering}
        for prompt in PROMPTS
        for steering in (None, {"emotion": "joy", "strength": 1.0}, {"emotion": "fear", "strength": 1.0})
    ]
    expected = [server.text(**kind) for kind in kinds]
    with httpx.Client(limits=httpx.Limits(max_connections=100), timeout=120) as client, ThreadPoolExecutor(100) as pool:

        def ask(i: int) -> str:
            body = {"model": "small", **kinds[i % len(kinds)]}
            reply = client.post(f"{server.address}/v1/completions", json=body)
            assert reply.status_code == 200, reply.text
            return reply.json()["choices"][0]["text"]

        found = list(pool.map(ask, range(500)))
    assert found == [expected[i % len(kinds)] for i in range(500)]
    assert settled(server)


def settled(server) -> bool:
    for _ in range(100):
        if server.app.state.writer.busy == 0:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("streams", [True, False])
def test_who_hangs_up_is_not_written_for(server, streams, monkeypatch):
    monkeypatch.setattr("interp.serving.app.POLL", 0.05)
    monkeypatch.setattr(server.steerable.model, "context", 100_000)
    body = json.dumps({"model": "small", "prompt": "Rain", "max_tokens": 90_000, "temperature": 0, "stream": streams})
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        if streams:
            assert b"data: " in connection.recv(4096) + connection.recv(4096)
        else:
            time.sleep(0.3)
        assert server.app.state.writer.busy == 1
    assert settled(server)
    assert server.text(prompt="Rain", max_tokens=4, temperature=0) == server.library("Rain", tokens=4, chat=False)


REFUSED = {
    "unknown emotion": ({"prompt": "x", "steering": {"emotion": "joi"}}, 400, "steering.emotion", "did you mean 'joy'"),
    "strength of no number": ({"prompt": "x", "steering": {"strength": "much"}}, 400, "steering.strength", "number"),
    "unknown part of a steering": (
        {"prompt": "x", "steering": {"emotio": "joy"}},
        400,
        "steering.emotio",
        "not permitted",
    ),
    "unknown positions": ({"prompt": "x", "steering": {"positions": "here"}}, 400, "steering.positions", "'generated'"),
    "no prompt": ({}, 400, "prompt", "is missing"),
    "an empty prompt": ({"prompt": ""}, 400, "prompt", ""),
    "no prompts": ({"prompt": []}, 400, "prompt", "empty"),
    "token ids out of range": ({"prompt": [3, 400]}, 400, "prompt", "0 to 399"),
    "too long": ({"prompt": "the dog " * 90}, 400, "prompt", "over the context"),
    "too many tokens": ({"prompt": "x", "max_tokens": 500}, 400, "prompt", "over the context"),
    "no tokens": ({"prompt": "x", "max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
    "hot": ({"prompt": "x", "temperature": 9}, 400, "temperature", "less than or equal to 2"),
    "too many texts": ({"prompt": ["x"] * 100, "n": 2}, 400, "n", "128"),
    "unknown model": ({"model": "gpt", "prompt": "x"}, 404, "model", "small"),
    "unknown field": ({"prompt": "x", "temprature": 1}, 400, "temprature", "did you mean 'temperature'"),
    "not served": ({"prompt": "x", "presence_penalty": 1}, 400, "presence_penalty", "not served"),
    "half a character": ({"prompt": "x\ud800"}, 400, "prompt", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests_are_refused_as_openai_does(server, case):
    body, status, param, said = REFUSED[case]
    reply = httpx.post(
        f"{server.address}/v1/completions",
        content=json.dumps({"model": "small", **body}),
        headers={"content-type": "application/json"},
    )
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param), error
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b"", 400), (b"[1]", 400), (b"[" * 100_000, 400), (b"\xff\xfe", 400), (b" " * 9_000_000, 413)],
)
def test_bodies_that_are_no_json(server, content, status):
    headers = {"content-type": "application/json"}
    reply = httpx.post(f"{server.address}/v1/chat/completions", content=content, headers=headers)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]
    assert server.text(prompt="Rain", max_tokens=1)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "robot", "content": "x"}],
        [{"role": "assistant", "content": "x"}],
        [{"role": "user", "content": " "}],
    ],
)
def test_messages_that_make_no_conversation(server, messages):
    reply = server.post("chat/completions", messages=messages)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith("messages")
    assert httpx.get(f"{server.address}/v2/nothing").json()["error"]["message"].startswith("GET /v2/nothing: Not Found")


def test_a_pass_that_fails_fails_its_texts_alone(server, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(server.steerable.model, "pad", broken)
        reply = server.post("completions", prompt="Rain", max_tokens=2)
        assert reply.status_code == 500
        assert reply.json()["error"]["type"] == "server_error"
        body = {"model": "small", "prompt": "Rain", "stream": True}
        with httpx.stream("POST", f"{server.address}/v1/completions", json=body) as streamed:
            assert events(streamed)[0]["error"]["code"] == "writing_failed"
    assert server.text(prompt="Rain", max_tokens=4, temperature=0) == server.library("Rain", tokens=4, chat=False)


def test_more_than_may_wait_are_told_so(steerable):
    from fastapi.testclient import TestClient

    with TestClient(build_app(steerable, name="small", most=1, waiting_room=3)) as client:
        reply = client.post("/v1/completions", json={"model": "small", "prompt": ["x"] * 5})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert client.post("/v1/completions", json={"model": "small", "prompt": ["x"] * 3}).status_code == 200


def test_a_port_in_use_is_refused():
    with listening("127.0.0.1", 0) as bound, pytest.raises(UserError, match="Cannot listen on"):
        listening("127.0.0.1", bound.getsockname()[1])
