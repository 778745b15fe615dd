"""The scoreboard: every method that maps an answer onto its picture, beside floors and ceilings, scored on the same samples.

cases: pictures and questions whose deciding objects are known.  rows: methods, floors and ceilings.  measure: one row on one
case.  run: all of them, resumable and shared among processes.  table: means, intervals and who wins.  page: the book's page.
"""
