"""The charts of a run. Pure: frames go in, matplotlib figures come out; nothing is saved here.

Each chart is a module with a function `draw`. `derived` is the frame of `summaries.derive`: a row per
request, durations in ms. Charts show only good requests of the measured window; a caption counts the failed
ones. Figures use matplotlib's object interface and explicit sizes: no pyplot, no change of rcParams. Whatever
differs in colour also differs in lightness, shape or words, so that charts can be printed in grey.
"""
