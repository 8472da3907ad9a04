"""Identity's only SQL.  `rows.py` has what every kind of record needs; the others what one kind needs beyond that."""
