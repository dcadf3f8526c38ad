"""Producer and Consumer for other people's services; loads neither Faust nor onnxruntime."""
