"""`./dev bench`: a cloud measured from outside by a load generator of its own, beside the reference and the targets.

`client` asks, `load` repeats it, `machine` counts what it costs; `sim` and `real` are the rows, `targets` the facts they
are held against, `table` the print.  `limits` are the older measures of starting and launching, each with one limit.
"""
