"""Speed and memory of chainrule beside its peers: `make bench`, or `python -m benchmarks --help`.

Read in this order: `cases` says what is measured, `contenders/` how each framework does it, `worker` and `crew` how
they take turns, `agreement` that they compute the same thing, `timing` how long it takes, `memory` what is kept, and
`report` and `document` show the results.
"""
