"""A round: look at the node, decide, note the debt, act, look again, report.

Every command and every turn of the daemon is a round or a part of one. What fails on its own (the runtime is away, a
file cannot be read) is a finding, never an exception.
"""
