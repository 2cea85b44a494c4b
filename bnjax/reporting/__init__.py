"""How is a finished run kept and shown? Records, tables and figures, all drawn from the record alone.

Importing this package is cheap: `bnjax.reporting.tables` loads rich and `bnjax.reporting.figures` loads
matplotlib, so they are imported by name where they are needed.
"""

from bnjax.reporting.records import (
    Record,
    config_digest,
    default_directory,
    provenance,
    read_record,
    require_free,
    tables_of,
    write_csv,
    write_record,
)

__all__ = [
    "Record",
    "config_digest",
    "default_directory",
    "provenance",
    "read_record",
    "require_free",
    "tables_of",
    "write_csv",
    "write_record",
]
