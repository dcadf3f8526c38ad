"""Feature operators, one idea a file: events and the entities' rows to columns."""

if __name__ != "headrace.enrichers.operators":
    raise ImportError(
        "import headrace.enrichers.operators: the folder is installed under the headrace namespace"
    )
