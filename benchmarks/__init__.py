"""Scripts that measure this project; each prints what the README shows."""
