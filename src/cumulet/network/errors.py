"""What can go wrong with a network, named as the reference names it: clients match on these names (`NeutronError.type`).

The class's name is the type on the wire, so none ends in `Error`.
"""

from __future__ import annotations

from typing import Any

from cumulet.core import errors

__all__: list[str] = []  # imported as a module: `errors.PortNotFound`


class BadRequest(errors.BadRequest):
    default = "Bad {resource} request: {msg}."


class HTTPBadRequest(errors.BadRequest):
    """A body, attribute or query that cannot be understood."""

    default = "Invalid input for {attribute}. Reason: {reason}."


class InvalidInput(errors.BadRequest):
    default = "Invalid input for operation: {reason}."


class PolicyNotAuthorized(errors.Forbidden):
    default = "(rule:{rule}) is disallowed by policy"


class RevisionNumberConstraintFailed(errors.PreconditionFailed):
    default = "Constrained to {expected}, but current revision is {current}"


class OverQuota(errors.Conflict):
    default = "Quota exceeded for resources: {overs}."


class InvalidQuotaValue(errors.BadRequest):
    default = "Change would make usage less than 0 for the following resources: {unders}."


# Not found


class NetworkNotFound(errors.NotFound):
    default = "Network {id} could not be found."


class SubnetNotFound(errors.NotFound):
    default = "Subnet {id} could not be found."


class PortNotFound(errors.NotFound):
    default = "Port {id} could not be found."


class RouterNotFound(errors.NotFound):
    default = "Router {id} could not be found"


class FloatingIPNotFound(errors.NotFound):
    default = "Floating IP {id} could not be found"


class SecurityGroupNotFound(errors.NotFound):
    default = "Security group {id} does not exist"


class SecurityGroupRuleNotFound(errors.NotFound):
    default = "Security group rule {id} does not exist"


class SubnetPoolNotFound(errors.NotFound):
    default = "Subnet pool {id} could not be found."


class AddressScopeNotFound(errors.NotFound):
    default = "Address scope {id} could not be found."


class RbacPolicyNotFound(errors.NotFound):
    default = "RBAC policy with ID {id} not found"


class AgentNotFound(errors.NotFound):
    default = "Agent {id} could not be found."


class AgentInUse(errors.Conflict):
    default = "Agent {id} is still part of the data plane."


class ExtensionsNotFound(errors.NotFound):
    default = "Extension with alias {alias} does not exist"


class TagNotFound(errors.NotFound):
    default = "Tag {tag} could not be found."


class AvailabilityZoneNotFound(errors.NotFound):
    default = "AvailabilityZone {zone} could not be found."


class ProjectQuotaNotFound(errors.NotFound):
    default = "Quota for project {project_id} could not be found."


class RouterInterfaceNotFound(errors.NotFound):
    default = "Router {router_id} does not have an interface with id {port_id}"


class RouterInterfaceNotFoundForSubnet(errors.NotFound):
    default = "Router {router_id} has no interface on subnet {subnet_id}"


class ExternalGatewayForFloatingIPNotFound(errors.NotFound):
    default = (
        "External network {network_id} is not reachable from subnet {subnet_id}.  "
        "Therefore, cannot associate Port {port_id} with a Floating IP."
    )


# Networks and subnets


class NetworkInUse(errors.Conflict):
    default = "Unable to complete operation on network {id}. {reason}."

    def __init__(self, *, id: str, reason: str = "There are one or more ports still in use on the network") -> None:
        super().__init__(id=id, reason=reason)


class DefaultExternalNetworkExists(errors.Conflict):
    default = "A default external network already exists: {id}."


class ExternalNetworkInUse(errors.Conflict):
    default = "External network {id} cannot be updated to be made non-external, since it has existing gateway ports."


class InvalidSharedSetting(errors.Conflict):
    default = "Unable to reconfigure sharing settings for network {network}. Multiple projects are using it."


class VlanIdInUse(errors.Conflict):
    default = "Unable to create the network. The VLAN {vlan} on physical network {physical_network} is in use."


class TunnelIdInUse(errors.Conflict):
    default = "Unable to create the network. The tunnel ID {tunnel} is in use."


class FlatNetworkInUse(errors.Conflict):
    default = "Unable to create the flat network. Physical network {physical_network} is in use."


class NoNetworkAvailable(errors.Unavailable):
    default = "Unable to create the network. No tenant network is available for allocation."


class NetworkMTUSubnetConflict(errors.Conflict):
    default = "MTU of {id} is not valid, subnet requires a minimum of {mtu}"


class SubnetInUse(errors.Conflict):
    default = "Unable to complete operation on subnet {id}: {reason}."

    def __init__(self, *, id: str, reason: str = "One or more ports have an IP allocation from this subnet") -> None:
        super().__init__(id=id, reason=reason)


class GatewayConflictWithAllocationPools(errors.Conflict):
    default = "Gateway ip {address} conflicts with allocation pool {pool}."


class GatewayIpInUse(errors.Conflict):
    default = "Current gateway ip {address} already in use by port {port_id}. Unable to update."


class InvalidAllocationPool(errors.BadRequest):
    default = "The allocation pool {pool} is not valid."


class OverlappingAllocationPools(errors.Conflict):
    default = "Found overlapping allocation pools: {first} {second} for subnet {cidr}."


class OutOfBoundsAllocationPool(errors.BadRequest):
    default = "The allocation pool {pool} spans beyond the subnet cidr {cidr}."


class DNSNameServersExhausted(errors.BadRequest):
    default = "Unable to complete operation for {id}. The number of DNS nameservers exceeds the limit {quota}."


class HostRoutesExhausted(errors.BadRequest):
    default = "Unable to complete operation for {id}. The number of host routes exceeds the limit {quota}."


class SubnetPoolDeleteError(errors.BadRequest):
    default = "Unable to delete subnet pool: Subnet pool has existing allocations."


class SubnetAllocationError(errors.ServerFault):
    """The reference answers 500 here; its words are for the tenant."""

    default = "Failed to allocate subnet: {reason}."


class SubnetPoolQuotaExceeded(errors.Conflict):
    default = "Per-project subnet pool prefix quota exceeded."


class MinPrefixSubnetAllocationError(errors.BadRequest):
    default = "Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {limit}."


class MaxPrefixSubnetAllocationError(errors.BadRequest):
    default = "Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {limit}."


class EmptySubnetPoolPrefixList(errors.BadRequest):
    default = "Empty subnet pool prefix list."


class PrefixVersionMismatch(errors.BadRequest):
    default = "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."


class IllegalSubnetPoolPrefixBounds(errors.BadRequest):
    default = "Illegal prefix bounds: {low_name}={low}, {high_name}={high}."


class UnsupportedMinSubnetPoolPrefix(errors.BadRequest):
    default = "Prefix '{prefix}' not supported in IPv{version} pool."


class IllegalSubnetPoolPrefixUpdate(errors.BadRequest):
    default = "Illegal update to prefixes: {msg}."


class NetworkSubnetPoolAffinityError(errors.BadRequest):
    default = "Subnets hosted on the same network must be allocated from the same subnet pool."


class AddressScopeInUse(errors.Conflict):
    default = "Unable to complete operation on address scope {id}. There are one or more subnet pools in use on the address scope."


class AddressScopeUpdateError(errors.BadRequest):
    default = "Unable to update address scope {id} : {reason}."


class AddressScopePrefixConflict(errors.Conflict):
    default = "Failed to associate address scope: subnetpools within an address scope must have unique prefixes."


class IllegalSubnetPoolIpVersionAssociationToAddressScope(errors.BadRequest):
    default = (
        "Illegal subnetpool association: subnetpool {pool_id} cannot associate with address scope {scope_id} "
        "because subnetpool ip_version is not {ip_version}."
    )


class IllegalSubnetPoolUpdate(errors.BadRequest):
    default = "Illegal subnetpool update : {reason}."


class NetworkAddressScopeAffinityError(errors.BadRequest):
    default = (
        "Subnets of the same address family hosted on the same network must all participate in the same address scope."
    )


class DuplicateRbacPolicy(errors.Conflict):
    default = "An RBAC policy already exists with those values."


class RbacPolicyInUse(errors.Conflict):
    default = (
        "RBAC policy on object {object_id} cannot be removed because other objects depend on it.\nDetails: {details}"
    )


# Ports and addresses


class MacAddressInUse(errors.Conflict):
    default = "Unable to complete operation for network {network_id}. The mac address {mac} is in use."


class IpAddressAlreadyAllocated(errors.Conflict):
    default = "IP address {address} already allocated in subnet {subnet_id}"


class IpAddressGenerationFailure(errors.Conflict):
    default = "No more IP addresses available on network {network_id}."


class InvalidIpForSubnet(errors.BadRequest):
    default = "IP address {address} is not a valid IP for the specified subnet."


class InvalidIpForNetwork(errors.BadRequest):
    default = "IP address {address} is not a valid IP for any of the subnets on the specified network."


class AllocationOnAutoAddressSubnet(errors.BadRequest):
    default = (
        "Invalid input for operation: IPv6 address {address} cannot be directly assigned to a port on subnet {subnet_id} "
        "as the subnet is configured for automatic addresses."
    )


class PortInUse(errors.Conflict):
    default = "Unable to complete operation on port {id} for network {network_id}. Port already has an attached device {device_id}."


class PortBound(errors.Conflict):
    default = "Unable to complete operation on port {id}, port is already bound, port type: {vif_type}, old_mac {old}, new_mac {new}."


class ServicePortInUse(errors.Conflict):
    default = "Port {id} cannot be deleted directly via the port API: {reason}."


class UnsupportedPortDeviceOwner(errors.Conflict):
    default = "Operation {operation} is not supported for device_owner {device_owner} on port {id}."


class DeviceIDNotOwnedByTenant(errors.Conflict):
    default = "The following device_id {device_id} is not owned by your tenant or matches another tenants router."


class AddressPairAndPortSecurityRequired(errors.Conflict):
    default = "Port Security must be enabled in order to have allowed address pairs on a port."


class AllowedAddressPairExhausted(errors.BadRequest):
    default = "The number of allowed address pair exceeds the maximum {quota}."


class DuplicateAddressPairInRequest(errors.BadRequest):
    default = (
        "Invalid input for operation: Request contains duplicate address pair: mac_address {mac} ip_address {address}."
    )


class PortSecurityPortHasSecurityGroup(errors.Conflict):
    default = "Port has security group associated. Cannot disable port security or IP address until security group is removed."


class PortSecurityAndIPRequiredForSecurityGroups(errors.BadRequest):
    default = (
        "Invalid input for operation: Port security must be enabled and port must have an IP address "
        "in order to use security groups."
    )


# Routers and floating IPs


class RouterInUse(errors.Conflict):
    default = "Router {id} {reason}"

    def __init__(self, *, id: str, reason: str = "still has ports") -> None:
        super().__init__(id=id, reason=reason)


class RouterInterfaceInUseByFloatingIP(errors.Conflict):
    default = (
        "Router interface for subnet {subnet_id} on router {router_id} cannot be deleted, "
        "as it is required by one or more floating IPs."
    )


class RouterInterfaceInUseByRoute(errors.Conflict):
    default = "Router interface for subnet {subnet_id} on router {router_id} cannot be deleted, as it is required by one or more routes."


class RouterExternalGatewayInUseByFloatingIp(errors.Conflict):
    default = (
        "Gateway cannot be updated for router {router_id}, since a gateway to external network {network_id} "
        "is required by one or more floating IPs."
    )


class SubnetMismatchForPort(errors.BadRequest):
    default = "Subnet on port {port_id} does not match the requested subnet {subnet_id}."


class InvalidRoutes(errors.BadRequest):
    default = "Invalid format for routes: {routes}, {reason}"


class RoutesExhausted(errors.BadRequest):
    default = "Unable to complete operation for {router_id}. The number of routes exceeds the maximum {quota}."


class FloatingIPPortAlreadyAssociated(errors.Conflict):
    default = (
        "Cannot associate floating IP {floating_ip_address} ({id}) with port {port_id} using fixed IP {fixed_ip}, "
        "as that fixed IP already has a floating IP on external network {network_id}."
    )


# Security groups


class SecurityGroupInUse(errors.Conflict):
    default = "Security Group {id} {reason}."

    def __init__(self, *, id: str, reason: str = "in use") -> None:
        super().__init__(id=id, reason=reason)


class SecurityGroupCannotRemoveDefault(errors.Conflict):
    default = "Insufficient rights for removing default security group."


class SecurityGroupCannotUpdateDefault(errors.Conflict):
    default = "Updating default security group not allowed."


class SecurityGroupDefaultAlreadyExists(errors.Conflict):
    default = "Default security group already exists."


class SecurityGroupConflict(errors.Conflict):
    default = "Error {reason} while attempting the operation."


class SecurityGroupRuleExists(errors.Conflict):
    default = "Security group rule already exists. Rule id is {rule_id}."


class DuplicateSecurityGroupRuleInPost(errors.Conflict):
    default = "Duplicate Security Group Rule in POST."


class SecurityGroupInvalidPortRange(errors.BadRequest):
    default = "Invalid input for operation: For TCP/UDP protocols, port_range_min must be <= port_range_max."


class SecurityGroupInvalidPortValue(errors.BadRequest):
    default = "Invalid input for operation: Invalid value for port {port}."


class SecurityGroupInvalidProtocolForPort(errors.BadRequest):
    default = (
        "Invalid input for operation: Ports cannot be specified for protocol {protocol}. "
        "Ports are only supported for {supported}."
    )


class SecurityGroupInvalidIcmpValue(errors.BadRequest):
    default = "Invalid input for operation: Invalid value for ICMP {field} ({attr}) {value}. It must be 0 to 255."


class SecurityGroupMissingIcmpType(errors.BadRequest):
    default = (
        "Invalid input for operation: ICMP code (port-range-max) {value} is provided "
        "but ICMP type (port-range-min) is missing."
    )


class SecurityGroupProtocolRequiredWithPorts(errors.BadRequest):
    default = "Invalid input for operation: Must also specify protocol if port range is given."


class SecurityGroupEthertypeConflictWithProtocol(errors.BadRequest):
    default = "Invalid input for operation: Invalid ethertype {ethertype} for protocol {protocol}."


class SecurityGroupRuleParameterConflict(errors.BadRequest):
    default = "Invalid input for operation: Conflicting value ethertype {ethertype} for CIDR {cidr}."


class SecurityGroupMultipleRemoteEntites(errors.BadRequest):  # the reference's spelling
    default = "Invalid input for operation: Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided."


class SecurityGroupNotSingleGroupRules(errors.BadRequest):
    default = "Invalid input for operation: Only allowed to update rules for one security profile at a time."


class SecurityGroupRuleInvalidProtocol(errors.BadRequest):
    default = (
        "Invalid input for operation: Security group rule protocol {protocol} not supported. "
        "Only protocol values {values} and integer representations [0 to 255] are supported."
    )


class SecurityGroupRuleInvalidEtherType(errors.BadRequest):
    default = (
        "Invalid input for operation: Security group rule for ethertype '{ethertype}' not supported. "
        "Allowed values are {values}."
    )


def bad(resource: str, msg: str, **fields: Any) -> BadRequest:
    """`Bad router request: …`."""
    return BadRequest(resource=resource, msg=msg.format(**fields) if fields else msg)
