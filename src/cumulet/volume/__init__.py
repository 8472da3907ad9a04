"""Volumes: disks that outlive servers (the reference: Cinder)."""
