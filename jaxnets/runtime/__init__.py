"""Process-wide settings."""
