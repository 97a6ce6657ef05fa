"""Records on spans: envelopes, attributes, OTLP in and out, the export queue, pasted spans."""
