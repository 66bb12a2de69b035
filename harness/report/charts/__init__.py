"""A run in pictures. Pure: frames go in, matplotlib figures come out; nothing is saved here.

Each chart is a module with a function `draw`. `derived` is the frame of `summaries.derive`: one row a
request, durations in ms. Only good requests of the measured window are drawn, and a caption counts the failed
ones. Figures are made with matplotlib's object interface and explicit sizes: no pyplot, no change of
rcParams. What carries meaning differs in lightness, shape or words too, so it survives grey printing.
"""
