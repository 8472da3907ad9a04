"""What runs on a host: steps of sagas, the hypervisor, the taps.  Never touches a database."""
