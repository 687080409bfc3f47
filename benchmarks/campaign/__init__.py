"""The campaign: every method on every data set, with one budget, tuned equally on validation."""
