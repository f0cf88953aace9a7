"""One run of the shortened quickstart serves all files of this folder that look at a finished store."""

from tests.e2e.quickstart import submitted as submitted
