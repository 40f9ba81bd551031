"""What the SDK costs, beside the bare mathematics or the usual library doing the same: one module a figure.

`python -m benchmarks` runs them all. Machines are noisy, so both sides are measured in turns in one run, and what
counts is the ratio. Nothing here is a test: a goal that is missed is printed, not raised.
"""
