"""The record: its types, its canonical bytes, digests, disclosures and pseudonyms."""
