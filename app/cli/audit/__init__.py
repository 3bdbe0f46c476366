"""`dynamic-agents audit`: verification and export of the audit log."""
