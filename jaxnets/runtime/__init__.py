"""Process-wide settings, child processes and signals."""
