"""How much load an arm holds: the highest Poisson rate that keeps every objective, as an interval.

`walk` asks for windows, one rate after another, and hears what came of each; `session` fires them at real
servers; `crossing` reads the capacity off the confirming windows; `report` and `chart` show it.
"""
