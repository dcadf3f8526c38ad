"""Online features and checkpoints in a Redis-compatible store, or in memory."""

if __name__ != "headrace.feature_store":
    raise ImportError(
        "import headrace.feature_store, not feature_store: "
        "the folder is installed under the headrace namespace"
    )
