"""Networks, ports, routers, floating IPs and security groups: the network API (Neutron v2.0) and the data plane behind it."""
