"""Augmentation on batches: a `View` says how, `draw` decides from counters, `crop` and `color` do it."""
