"""What was served is found again by its digest; what is beyond the bound is forgotten."""

from __future__ import annotations

import itertools

import msgspec
from fakes.onnx_models import mlp, pipeline

from headrace.feature_store.snapshot_folder import SnapshotFolder
from headrace.serving.repository import Repository

MOST = 4


def repository(folder, step=1.0):
    """One whose clock goes on with each look."""
    clock = itertools.count(1_000.0, step)
    return Repository(SnapshotFolder(folder), "press", lambda: next(clock))


def test_a_model_and_its_file_come_back(tmp_path):
    """The bytes by their digest, the pipeline to the letter, the newest first."""
    kept = repository(tmp_path)
    first = kept.keep(pipeline(), mlp(4, seed=1), "device,site\n", numerics="a")
    second = kept.keep(pipeline(), mlp(4, seed=2), None)

    assert kept.model(first.model_digest) == mlp(4, seed=1)
    assert kept.served() == [second, first]
    assert first.pipeline == pipeline()
    assert first.digest == pipeline().digest
    assert kept.model("0" * 8) is None


def test_the_same_again_changes_nothing_but_its_time(tmp_path):
    """Each start of a worker keeps it again, and it is there once."""
    kept = repository(tmp_path)
    kept.keep(pipeline(), mlp(4), None)
    again = kept.keep(pipeline(), mlp(4), None)
    assert kept.served() == [again]
    kept.keep(pipeline(), mlp(4), None, numerics="b")
    assert len(kept.served()) == 2


def test_damage_is_passed_over(tmp_path):
    """A model whose bytes are not those of its digest is gone; a file of another form is none."""
    kept = repository(tmp_path)
    served = kept.keep(pipeline(), mlp(4), None)
    [model] = tmp_path.rglob("*.onnx")
    model.write_bytes(b"cut short")
    [file] = tmp_path.rglob("*.json")
    assert kept.model(served.model_digest) is None
    file.write_bytes(b"{}")
    assert kept.served() == []


def test_the_oldest_are_forgotten_with_their_models(tmp_path, monkeypatch):
    """So many are remembered; a model goes with the last that served it."""
    monkeypatch.setattr("headrace.serving.repository.MOST_SERVED", MOST)
    kept = repository(tmp_path)
    old = kept.keep(pipeline(), mlp(4, seed=1), None)
    for version in range(MOST):
        model = msgspec.structs.replace(pipeline().model, version=version + 2)
        kept.keep(msgspec.structs.replace(pipeline(), model=model), mlp(4, seed=2), None)

    assert len(kept.served()) == MOST
    assert kept.model(old.model_digest) is None
    assert kept.model(kept.served()[0].model_digest) == mlp(4, seed=2)
