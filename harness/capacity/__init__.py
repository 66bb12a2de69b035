"""How much load an arm holds: the highest Poisson rate that keeps every objective, as an interval.

Imports `run`, `report` and all below.

`walk` asks for windows, one rate after another, and gets the result of each; `session` runs them at real
servers; `windows` adds up their scores; `crossing` reads the capacity off the confirming windows; `report`
and `chart` show it.
"""
