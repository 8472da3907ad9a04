"""Pages at `/` for people: a client of the public API like any other, with no door of its own.

application.py has the routes and what holds for every request; pages/ one file per thing shown; client.py the calls; sessions.py who is
logged in; trace.py the waterfall of a launch.  Pages are rendered here, work without a script, and escape every word they show.
"""
