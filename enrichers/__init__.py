"""Pure columnar operators from records to features; no I/O, no clock."""

if __name__ != "headrace.enrichers":
    raise ImportError(
        "import headrace.enrichers, not enrichers: "
        "the folder is installed under the headrace namespace"
    )
