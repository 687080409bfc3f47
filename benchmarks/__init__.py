"""Benchmarks: speed (ASV), peers, gpu, and the campaign of training."""
