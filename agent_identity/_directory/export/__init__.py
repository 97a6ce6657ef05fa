"""Export of the ledger over OTLP, with a cursor for each receiver."""
