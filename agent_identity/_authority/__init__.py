"""May: what a grant permits, chains of grants, and whether the task behind them still lives."""
