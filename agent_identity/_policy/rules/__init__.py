"""Rules, their compiled program, and the review that finds rules without effect."""
