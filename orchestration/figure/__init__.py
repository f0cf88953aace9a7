"""Figures of a result, drawn with matplotlib: bars, curves, Pareto fronts, parallel coordinates."""
