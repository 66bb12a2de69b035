"""What each strategy makes of each fault: a real server, real requests, a real kill, and what comes of it.

A fault is one function that is handed a `site.Site`: an arm's server that runs. It does its worst, and tells
what came of it. `catalogue` lists them, `meeting` brings fault and arm together, `page` shows the result.
"""
