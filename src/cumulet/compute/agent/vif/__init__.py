"""A host's side of the network: taps for guests, namespaces for metadata; `driver` is the contract, `sim` its twin."""
