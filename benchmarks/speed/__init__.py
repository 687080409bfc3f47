"""ASV benchmarks of equilib; ASV wants them to be a package."""
