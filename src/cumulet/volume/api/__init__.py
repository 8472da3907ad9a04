"""Volumes on the web: one file per resource."""
