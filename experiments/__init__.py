"""Which experiments of the papers run here? One module each: `python -m experiments.<name> --help`.

What they have in common is in `common`, what they say of the papers in `claims`, and what an audit of a model of one's
own needs in `own`.
"""
