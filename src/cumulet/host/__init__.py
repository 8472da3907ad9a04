"""The machine under the cloud: the daemons that a real cloud needs, started privately, watched, adopted and stopped.

Read `stack.py` first.  One cloud's daemons (OVN, Open vSwitch, libvirtd) live in its state directory, under names
derived from that directory (`config.py`), so that several clouds and a system's own libvirt stand side by side.
"""
