"""The volume scheduler: which back end a volume goes to."""
