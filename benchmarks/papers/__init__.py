"""Experiments of the papers that introduced the aggregators, with this package's models, training and explanations."""
