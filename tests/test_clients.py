"""Exported steerings in the programs that they are for, against the steered model here.

Needs llama.cpp's server (`llama-server` on the path, or LLAMA_SERVER), and lm-evaluation-harness; skipped where they
are not. Wheels of the server are on the package index.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from steerings import additive_steering
from tiny_gguf import write_gguf
from tiny_models import SENTENCES, build_model

from interp.models.language_model import LanguageModel
from interp.steering import Steering
from interp.steering.export import export

pytestmark = pytest.mark.clients
SERVER = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server") or shutil.which("llama-server-vulkan")
TOLERANCE = 1e-3
"""Of a log-probability: llama.cpp's own kernels against torch's."""
WORDS = SENTENCES[:3]


@contextmanager
def served(*words: str) -> Iterator[str]:
    """The address of a llama.cpp server with these options, on a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    exact = ["--ctx-size", "128", "--parallel", "1", "--threads", "1", "--no-warmup"]
    exact += ["--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off", "--n-gpu-layers", "0"]
    command = [str(SERVER), *words, *exact, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(240):
                if process.poll() is not None:
                    pytest.fail(f"llama-server ended: {process.stderr.read()[-2000:]}")
                try:
                    with urllib.request.urlopen(f"{address}/health", timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.25)
            yield address
        finally:
            process.kill()


def told(address: str, ids: list[int], word: int) -> dict[int, float]:
    """Log-probabilities of the likeliest next tokens, as the server tells them before the bias towards `word`.

    Half a letter, which a random model may well write, is an error to the server.
    """
    body = {"prompt": ids, "n_predict": 1, "n_probs": 20, "temperature": 0.0, "cache_prompt": False}
    body["logit_bias"] = [[word, 1000.0]]
    request = urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        first = json.load(reply)["completion_probabilities"][0]
    return {one["id"]: one["logprob"] for one in first["top_logprobs"]}


def expected(model: LanguageModel, ids: list[int], steering: Steering) -> torch.Tensor:
    with torch.no_grad(), steering.applied(model):
        return model.hf(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


@pytest.mark.skipif(SERVER is None, reason="llama.cpp's llama-server is not here: put it on the path, or LLAMA_SERVER")
@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0, -1.0])
def test_a_control_vector_does_in_llama_cpp_what_the_steering_does_here(tokenizer, stack, tmp_path, strength):
    """With llama.cpp's own scale; without the vector, it is the plain model (a control of the comparison itself)."""
    model = build_model("llama", tokenizer)
    weights = write_gguf(tmp_path / "tiny.gguf", model.hf, tokenizer)
    vector = export(additive_steering(), model, stack, "gguf", tmp_path / "steering")
    scaled = ["--control-vector-scaled", f"{vector}:{strength}"] if strength else []
    plain, steered = Steering("none"), additive_steering().scaled(strength) if strength else Steering("none")
    with served("--model", str(weights), *scaled) as address:
        for text in WORDS:
            ids = tokenizer(text)["input_ids"]
            found, ours = told(address, ids, tokenizer(" cat")["input_ids"][-1]), expected(model, ids, steered)
            assert len(found) == 20
            assert max(abs(ours[k].item() - value) for k, value in found.items()) < TOLERANCE
            assert max(found, key=found.get) == ours.argmax().item()
            if strength:
                assert (ours - expected(model, ids, plain)).abs().max() > 0.1


TASK = """
task: colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: [cat, dog, rain]
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
"""


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed: pip install lm_eval")
def test_the_harness_answers_as_the_steered_model_does(tokenizer, stack, tmp_path):
    """Every answer of its `--model steered` on a task of one's own, against the log-probabilities here."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = build_model("llama", tokenizer)
    model.hf.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    path = export(additive_steering(), model, stack, "lm-eval", tmp_path / "steering")
    rows = [{"text": text, "label": k % 3} for k, text in enumerate(SENTENCES)]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "colours.yaml").write_text(TASK.format(data=data))
    found = simple_evaluate(
        model="steered",
        model_args=f"pretrained={tmp_path / 'model'},steer_path={path},add_bos_token=True,dtype=float32",
        tasks=["colours"],
        task_manager=TaskManager(include_path=str(tmp_path / "task"), include_defaults=False),
        device="cpu",
        batch_size=1,
        bootstrap_iters=0,
    )
    answers = [" cat", " dog", " rain"]
    for sample in found["samples"]["colours"]:
        told_ = [float(reply[0][0]) for reply in sample["resps"]]
        for answer, value in zip(answers, told_, strict=True):
            assert value == pytest.approx(_logprob(model, sample["doc"]["text"], answer), abs=TOLERANCE)


def _logprob(model: LanguageModel, text: str, answer: str) -> float:
    """Summed over the answer's tokens, under the steering."""
    tokenizer = model.tokenizer
    start = tokenizer(text)["input_ids"]
    whole = tokenizer(text + answer)["input_ids"]
    with torch.no_grad(), additive_steering().applied(model):
        logp = model.hf(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(logp[k - 1, whole[k]].item() for k in range(len(start), len(whole)))


def test_the_server_is_looked_for_where_the_page_says():
    page = (Path(__file__).parents[1] / "docs/pages/howto/export.md").read_text(encoding="utf-8")
    assert "LLAMA_SERVER=" in page
    assert "pytest -m clients" in page
