"""`python -m orchestration` is `leoclr-ops`, where the command is not on the path."""

from orchestration.cli import main

main()
