"""`./dev chaos`: the product's own code in a world that one seed owns: time, ids, randomness, the order of messages, and what goes wrong."""
