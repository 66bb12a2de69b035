"""The capacity of each arm: the highest Poisson rate at which it keeps every objective, with its interval.

Imports `run`, `report` and all rooms below.

`walk` chooses the rate of each window from the results so far, and `session` runs the windows on real
servers. `windows` adds up the scores of each window, and `crossing` estimates the capacity from the
confirming windows. `report` and `chart` show it.
"""
