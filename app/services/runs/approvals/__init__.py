"""Approvals: tool calls that wait for a person, and run trees that wait without an owner."""
