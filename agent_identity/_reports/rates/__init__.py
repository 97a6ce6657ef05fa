"""Rates: how often something happens in an hour, against the same hour of earlier weeks."""
