"""Speed and memory of chainrule beside its peers: `make bench`, or `python -m benchmarks --help`.

Read in this order: `cases` says what is measured and `contenders/` how each framework does it; `worker`, `crew` and
`turns` let them take turns; `agreement` sees that they compute the same, `timing` puts a row together, `memory` asks
what is kept; `results` are the figures, `tables` puts them in words, `report` and `document` show them.
"""
