"""The tests mirror the packages; each name is the claim."""
