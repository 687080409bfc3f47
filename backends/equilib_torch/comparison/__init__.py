"""Comparison of training methods: the same budget for all, several seeds, one table with significance.

variants → runs (one directory each, resumable) → outcomes → statistics → table, figures, plots
"""
