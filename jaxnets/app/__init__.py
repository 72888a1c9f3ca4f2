"""What stands behind the scripts: whole jobs, and the parts that they share."""
