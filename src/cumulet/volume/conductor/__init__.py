"""The volume conductor: the hosts' only way to the volume database."""
