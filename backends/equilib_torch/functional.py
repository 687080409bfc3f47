"""The formulas of the training methods as pure functions, for loops of one's own."""
