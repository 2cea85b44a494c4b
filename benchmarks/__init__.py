"""How fast is bnjax beside its peers, at equal work? `python -m benchmarks.<name> --help`."""
