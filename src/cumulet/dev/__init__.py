"""The workshop: what `./dev` runs.  Not part of the installed product, and nothing in the product imports it."""
