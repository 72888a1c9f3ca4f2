"""The config of a run: its fields, with defaults, checks and conditions of use.

A config file starts from `default_config()` and sets fields. Derived values, such as numbers of steps, are
computed when a run starts.
"""

from jaxnets.config.checks import (
    check_consistency,
    check_field,
    check_ranges,
    reset_unused,
    unused,
    used_fields,
    validate,
)
from jaxnets.config.conditions import AUTO, NETWORKS, SOURCES, SQUARED_ERRORS
from jaxnets.config.field import UNITS, Field, get_field, nearest, set_field
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.config.loading import (
    apply_variant,
    data_root,
    default_config,
    differences,
    from_json,
    import_config,
    import_file,
    load_config,
    steps,
    to_json,
    user_set,
)
