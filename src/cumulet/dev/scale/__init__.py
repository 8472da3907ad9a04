"""`./dev scale`: how launches, decisions, lists and memory grow with hosts and servers."""
