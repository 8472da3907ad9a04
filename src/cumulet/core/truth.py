"""What clients write for yes and no, in lower case: the reference's words."""

__all__ = ["NO", "YES"]

YES = frozenset({"1", "t", "true", "on", "y", "yes"})
NO = frozenset({"0", "f", "false", "off", "n", "no"})
