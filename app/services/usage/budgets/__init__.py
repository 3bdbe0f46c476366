"""Budgets: limits on the tokens and cost of scopes, reserved before each model call and settled after it."""
