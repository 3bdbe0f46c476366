"""Budgets: limits of tokens and money over scopes, reserved before each model call and settled after it."""
