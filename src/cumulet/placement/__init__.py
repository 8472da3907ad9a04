"""What there is and who has it: resource providers, inventories, allocations, candidates (Placement)."""
