"""`./dev chaos`: the product's own code in a world whose time, ids, dice, order of messages and accidents one seed owns."""
