"""Every action of an AI agent attributable to an accountable human, bounded by a task, provable afterwards."""
