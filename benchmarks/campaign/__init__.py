"""The campaign: every method on every data set, with the same updates, chosen on validation alone.

plan (which runs) → run (a JSON line per run) → analysis (pure statistics) → results (RESULTS.md)
"""
