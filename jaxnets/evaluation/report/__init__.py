"""The report of a run: one page to read offline or print, and the same figures as JSON."""
