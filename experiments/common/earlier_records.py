"""Can a record of an earlier version be read by today's rules?"""

from bnjax.derivatives import TERMS
from bnjax.reporting.records import Record, tables_of

# What they may end in where they can't: a table lacks a row, a column or a number that they count on.
UNREADABLE = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, StopIteration)


def require_todays_terms(record: Record) -> None:
    """Raise LookupError if a table of the record has a `term` that is none today: what is looked up would be missing.

    What is drawn and claimed picks rows by the names of `TERMS`, and would say nothing of one that was renamed.
    """
    named = {row["term"] for rows in tables_of(record.results).values() for row in rows if "term" in row}
    if unknown := sorted(map(str, named - set(TERMS))):
        raise LookupError(f"the terms are {', '.join(TERMS)}, and it has {', '.join(unknown)}")
