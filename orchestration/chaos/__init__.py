"""Faults on purpose: the product is struck while it runs on this machine, and must keep what it promises."""
