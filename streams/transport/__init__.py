"""The only door to Faust: columnar batches in, acknowledgements out."""
