"""Verified records for other systems: OCSF, CloudEvents, OpenTelemetry logs, Parquet."""
