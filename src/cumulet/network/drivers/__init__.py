"""Data planes for the network service: `driver` is what one must be able to do, `ovn` the real one, `sim` the one in memory."""
