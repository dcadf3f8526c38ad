"""The data path: transport, agents, delivery, clients, local services, commands."""

if __name__ != "headrace.streams":
    raise ImportError(
        "import headrace.streams, not streams: the folder is installed under the headrace namespace"
    )
