"""Files and bytes: layout of a directory, lines, compression codecs, MACs."""
