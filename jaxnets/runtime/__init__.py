"""Process-wide settings: what scripts set once, before anything is computed."""
