"""The audit log: entries in one chain over all processes, their verification and their export."""
