"""Data sets as arrays with their metadata."""
