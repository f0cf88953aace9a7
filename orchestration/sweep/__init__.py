"""Sweeps: from a file and its space over trials, which are pipelines, to a result that is compared and tabulated."""
