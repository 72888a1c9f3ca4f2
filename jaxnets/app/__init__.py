"""Whole jobs, a file each, behind the scripts."""
