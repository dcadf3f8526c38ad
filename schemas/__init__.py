"""Contracts that every layer shares; imports nothing of ours."""

if __name__ != "headrace.schemas":
    raise ImportError(
        "import headrace.schemas, not schemas: the folder is installed under the headrace namespace"
    )
