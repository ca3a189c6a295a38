"""Speeds and sizes that are promised, measured beside a named peer in the same run and printed as ratios.

``python -m bench`` runs all, ``python -m bench verify`` one. Root on Debian, as the tests; nothing is left behind.
"""
