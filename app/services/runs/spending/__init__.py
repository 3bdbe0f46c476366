"""The budgets of a run tree: around its model calls, and before it starts."""
