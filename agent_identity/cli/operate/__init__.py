"""Commands that set up, examine and maintain the directory of an enforcer."""
