"""Data planes of the network service: `driver` is what one must do, `ovn` the real one, `sim` the one in memory."""
