"""One program per finder. Each runs in an environment of its own, without jaxnets."""
