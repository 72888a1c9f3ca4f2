"""The config of a run: its fields, with defaults, checks and conditions of use.

A config file starts from `default_config()` and sets fields. Derived values, such as numbers of steps, are
computed when a run starts.
"""

from jaxnets.config.conditions import AUTO, SQUARED_ERRORS
from jaxnets.config.field import UNITS, Field
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.config.files import apply_variant, import_config, import_file
from jaxnets.config.loading import (
    check_field,
    data_root,
    default_config,
    differences,
    from_json,
    get_field,
    load_config,
    reset_unused,
    set_field,
    steps,
    to_json,
    unused,
    used_fields,
    user_set,
    validate,
)
from jaxnets.errors import suggest
