"""The experiments of the papers behind the aggregators, on the package's own models, trainer and explanations."""
