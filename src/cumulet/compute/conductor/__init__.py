"""The conductor: owns the compute database's sagas, and is the hosts' only way to that database."""
