"""How is an error of another library told in one line?"""


def said(error: BaseException) -> str:
    r"""Return an error's class and the first line of what it says.

    Example:
        >>> said(ValueError("two rows are needed\nbut one came"))
        'ValueError: two rows are needed'
    """
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; JAX and orbax go on for many."""
    return str(error).strip().partition("\n")[0]
