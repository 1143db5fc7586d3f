"""Speed and memory of chainrule beside its peers: `make bench`, or `python -m benchmarks --help`.

Read in this order: `cases` and `problems` say what is measured and `contenders/` how each framework does it; `worker`,
`crew` and `turns` let them take turns; `agreement` sees that they compute the same, `timing` puts a row together,
`cold` times first calls, `memory` asks what is kept and what is needed; `results` are the figures, `tables` puts them
in words, `report` and `document` show them.
"""
