"""Producer and Consumer for other people's services; loads neither Faust nor onnxruntime."""

from headrace.streams.client.consumer import Consumer
from headrace.streams.client.deadletters import DeadLetter, dead_letters
from headrace.streams.client.producer import Producer, Record
from headrace.streams.client.received import Received
from headrace.streams.client.summaries import summaries

__all__ = [
    "Consumer",
    "DeadLetter",
    "Producer",
    "Received",
    "Record",
    "dead_letters",
    "summaries",
]
