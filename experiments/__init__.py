"""Which experiments of the papers run here? One module each: ``python -m experiments.<name> --help``."""
