"""ONNX inference: session, load checks, batcher, cache and scorer."""

if __name__ != "headrace.serving":
    raise ImportError(
        "import headrace.serving, not serving: the folder is installed under the headrace namespace"
    )
