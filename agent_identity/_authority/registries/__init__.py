"""Registries of open tasks and of agents, revocations, and rulings of approvers."""
