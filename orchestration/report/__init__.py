"""What a run was made of, and the page that shows what came of a submission, a sweep, or everything."""
