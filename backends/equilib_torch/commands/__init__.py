"""The commands of the torch backend: parse, check, do, write, say what came out."""
