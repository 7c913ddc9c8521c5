"""Records as text: the numbers, sentences and table rows that terminal, pages, report and model card share.

Everything here takes records and returns a string or a `Table`; drawing is the caller's.
"""
