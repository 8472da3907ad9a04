"""The compute API's routes, one file per resource; `application.py` puts them together."""
