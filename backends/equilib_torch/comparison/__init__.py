"""Comparison of training methods: the same budget for all, several seeds, one table with significance.

variants → queue (one directory per run, resumable) → outcomes → statistics → table → Markdown, CSV, JSON, plots
"""
