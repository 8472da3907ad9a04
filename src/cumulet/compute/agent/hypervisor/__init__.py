"""The hypervisor of a host: `driver` says what is asked of it, `libvirt_driver` and `sim` do it.

Drivers are imported by whoever wires a host together, and only the one that is used: libvirt's binding is a Debian
package that a simulated host does not need.
"""
