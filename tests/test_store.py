"""The store of files by what they were computed from: whole or not at all, bounded, shared between processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import PROMPTS

from interp.engine.capture import capture
from interp.engine.kept import KeptBatch, KeptCaptures
from interp.files.store import ABANDONED, Store
from interp.files.units import Units

KEYS = [f"{i:02d}{'a' * 62}" for i in range(20)]


def keep(store: Store, key: str, data: bytes) -> Path | None:
    return store.put(key, ".bin", lambda part: part.write_bytes(data))


def test_what_is_put_is_there_for_every_process(tmp_path):
    assert Store(tmp_path, 100).get(KEYS[0]) is None
    path = keep(Store(tmp_path, 100), KEYS[0], b"whole")
    found = Store(tmp_path, 100).get(KEYS[0])
    assert found == path
    assert found is not None
    assert found.read_bytes() == b"whole"


def test_a_failed_write_leaves_nothing(tmp_path):
    store = Store(tmp_path, 100)

    def fail(part: Path) -> None:
        part.write_bytes(b"half")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        store.put(KEYS[0], ".bin", fail)
    assert store.get(KEYS[0]) is None
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_full_disk_or_a_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file", 100)
    assert keep(store, KEYS[0], b"whole") is None
    assert store.get(KEYS[0]) is None


def test_what_was_used_least_recently_goes_first_and_the_budget_holds(tmp_path):
    store = Store(tmp_path, 100)
    for i, key in enumerate(KEYS[:10]):
        path = keep(store, key, bytes(10))
        assert path is not None
        os.utime(path, (1000 + i, 1000 + i))
    assert store.size == 100
    assert store.get(KEYS[0]) is not None  # used just now
    keep(store, KEYS[10], bytes(25))
    left = [key for key in KEYS[:11] if store.get(key) is not None]
    assert left == [KEYS[0], *KEYS[4:11]]
    assert store.size == 95
    assert keep(store, KEYS[11], bytes(101)) is None  # larger than all of it: nothing makes room for that
    assert store.size == 95


@pytest.mark.parametrize("damage", [b"", b"whale", b"whole and more"])
def test_a_damaged_file_is_not_handed_out(tmp_path, damage):
    path = keep(Store(tmp_path, 100), KEYS[0], b"whole")
    assert path is not None
    path.write_bytes(damage)
    store = Store(tmp_path, 100)
    assert store.get(KEYS[0]) is None
    keep(store, KEYS[0], b"whole")
    again = store.get(KEYS[0])
    assert again is not None
    assert again.read_bytes() == b"whole"


def test_what_a_killed_process_left_half_written_goes_and_what_another_is_writing_stays(tmp_path):
    store = Store(tmp_path, 100)
    keep(store, KEYS[0], b"whole")
    (left, writing) = (tmp_path / KEYS[0][:2] / f".{KEYS[0]}.{name}.part" for name in ("left", "writing"))
    for path in (left, writing):
        path.write_bytes(b"half")
    os.utime(left, (time.time() - ABANDONED - 10,) * 2)
    keep(store, KEYS[1], b"whole")
    assert not left.exists()
    assert writing.exists()


def test_many_processes_write_the_same_keys_within_a_budget(tmp_path):
    """Four of them, the same twenty keys, room for half of them; every file that is found is whole."""
    code = """
import random, sys
from pathlib import Path
from interp.files.store import Store

store, rng = Store(Path(sys.argv[1]), 10_000), random.Random(int(sys.argv[2]))
for _ in range(120):
    n = rng.randrange(20)
    key, data = f"{n:02d}" + "a" * 62, bytes([n]) * 1000
    found = store.get(key)
    if found is None:
        store.put(key, ".bin", lambda part: part.write_bytes(data))
    else:
        try:
            assert found.read_bytes() == data
        except FileNotFoundError:
            pass
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(i)]) for i in range(4)]
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 4
    store = Store(tmp_path, 10_000)
    assert 5_000 <= store.size <= 10_000
    found = {key: store.get(key) for key in KEYS}
    assert sum(path is not None for path in found.values()) >= 5
    assert all(path.read_bytes() == bytes([n]) * 1000 for n, path in enumerate(found.values()) if path is not None)
    assert not list(tmp_path.rglob("*.part"))


def test_units_of_the_same_content_are_made_once_for_all_runs(tmp_path):
    store, made = Store(tmp_path / "store", 2**20), []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.arange(3.0)}

    for run, content in (("a", ["seed", 0]), ("b", ["seed", 0]), ("c", ["seed", 1])):
        found = Units(tmp_path / run, "steer", store).of(content).arrays("fold 0", make)
        assert found["x"].tolist() == [0, 1, 2]
    assert len(made) == 2
    Units(tmp_path / "d", "steer", store).arrays("fold 0", make)  # nothing is said of its content
    Units(tmp_path / "e", "trace", store).of(["seed", 0]).arrays("fold 0", make)  # another stage
    Units(tmp_path / "f", "steer", store).of(["seed", 0]).arrays("fold 1", make)  # another unit
    assert len(made) == 5
    one, other = (tmp_path / run / "units" / "steer" / "fold_0.npz" for run in "ab")
    assert one.read_bytes() == other.read_bytes()
    values = [Units(tmp_path / run, "steer", store).of(1).values("price", lambda: 0.1 + 0.2) for run in "ab"]
    assert values == [0.1 + 0.2] * 2


def test_units_of_a_kind_are_made_once_for_all_stages(tmp_path):
    store, made = Store(tmp_path / "store", 2**20), []

    def make() -> int:
        made.append(1)
        return len(made)

    evaluate, side_effects = (Units(tmp_path / "a", stage, store) for stage in ("evaluate", "side_effects"))
    assert evaluate.anywhere("language", "digest").values("x", make) == 1
    assert side_effects.anywhere("language", "digest").values("x", make) == 1
    assert side_effects.anywhere("language short", "digest").values("y", make) == 2
    assert side_effects.anywhere("language", "other").values("z", make) == 3
    assert side_effects.of("digest").values("u", make) == 4  # of its stage alone
    assert evaluate.of("digest").values("u", make) == 5


def test_kept_captures_of_another_process_are_the_same_to_the_last_bit(llama, tmp_path):
    captured = capture(llama, PROMPTS, answers=["anger", "fear"], keep_cache=True)
    batch = KeptBatch.of(captured, None)
    store = Store(tmp_path / "store", 2**30)
    for memory in (2**30, 0):
        KeptCaptures(tmp_path, memory=memory, store=store).put("ab" * 32, batch)
        other = KeptCaptures(tmp_path, memory=memory, store=Store(tmp_path / "store", 2**30))
        found = other.get("ab" * 32)
        assert found is not None
        assert found.behind == batch.behind
        assert {*found.tensors} == {*batch.tensors}
        assert all(torch.equal(found.tensors[name], x) for name, x in batch.tensors.items())
        assert other.get("cd" * 32) is None


def test_captures_of_earlier_runs_make_room_and_those_of_this_one_do_not(llama, tmp_path):
    captured = capture(llama, PROMPTS, answers=["anger", "fear"], keep_cache=True)
    batch = KeptBatch.of(captured, None)
    kept = KeptCaptures(tmp_path, memory=3 * batch.n_bytes, disk=0)
    for key in "abc":
        kept.put(key, batch)
    kept.put("d", batch)
    assert [kept.get(key) is not None for key in "abcd"] == [True, True, True, False]
    kept.next_run()
    assert kept.get("b") is not None
    kept.put("e", batch)
    assert [kept.get(key) is not None for key in "abce"] == [False, True, True, True]
