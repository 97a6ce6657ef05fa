"""Telemetry beside our own spans: metrics of an enforcer, and stamps on spans of other libraries."""
