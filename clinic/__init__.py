"""The clinic: sick and healthy networks with known diagnoses, which the doctor is examined on.

Read in this order: `problems` are the data and `networks` the healthy networks; `setting` puts one of each together
with an optimiser and trains it; `healthy` lists the settings that are fine; `faults` are the ways to spoil one, a
`sickness` is a spoiled one, and `sick` lists them. `wider` and `blind` are more of the same. `drawn` are cases that
a seed decides, as many as one likes; those of some seeds are held out. `case` is what an examiner sees of a sick or
healthy one, `cases` all of them. `measure` proves that the sick ones are harmed and the healthy ones are not;
`python -m clinic` shows it.
"""
