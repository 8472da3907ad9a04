"""The network service's only SQL: plain functions, transaction first, frozen structs out."""
