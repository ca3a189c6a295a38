"""Where a report goes: a terminal, a JSON document, metrics, the log. One sink's trouble is never another's."""
