"""The API of version 1: one module for each resource."""
