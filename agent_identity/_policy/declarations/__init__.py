"""Ready-made declarations of the resources that a call touches, from its arguments."""
