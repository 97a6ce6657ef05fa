"""The trust store: entries, file format, signatures, merging, certificates of recorders, remote signers."""
