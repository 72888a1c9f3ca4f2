"""What compare.py puts on pages: tables and pictures of results/, a file each."""
