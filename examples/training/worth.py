"""What an example's model is worth on telemetry that training never saw."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fit import score
from measures import judged
from stream import Featured

from headrace.schemas.pipeline import load_pipeline


def worth(folder: Path, unseen: Featured, sent: int) -> dict[str, Any]:
    """The model card's figures of the model file in `folder`.

    Args:
        folder: The example's folder.
        unseen: Labelled model inputs.
        sent: Records that they come from, repeats and late ones included.
    """
    pipeline = load_pipeline(folder / "pipeline.toml")
    model, threshold = (folder / pipeline.model.file).read_bytes(), pipeline.model.outputs.threshold
    return {
        # As predictions and `headrace model check` tell it.
        "digest": hashlib.blake2b(model, digest_size=16).hexdigest(),
        "threshold": threshold,
        "records": {
            "sent": sent,
            "out": len(unseen.sent),
            "late": unseen.late,
            "repeated": unseen.repeated,
            "dead": unseen.dead,
        },
        **judged(unseen.labels, unseen.kinds, score(model, unseen.inputs), threshold),
    }
