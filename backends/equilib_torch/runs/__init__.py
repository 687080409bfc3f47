"""What is kept of a run: its directory, summary and plots."""
