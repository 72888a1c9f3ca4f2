"""The HTML report of a run, and its metrics as JSON."""
