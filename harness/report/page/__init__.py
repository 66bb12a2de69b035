"""The page of a run: one HTML file with the answer, how far to trust it, its pictures and their data.

Each picture is a module with a function that takes a `Context` and returns a `Picture`, or None if the run
has nothing to draw. `run_page` puts them in order; `html` writes the file. A title says what was found, and
the data of each picture are in a table beside it. Text from outside is escaped by the template and the SVG.
"""
