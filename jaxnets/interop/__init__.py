"""Import and export of other libraries' weights."""
