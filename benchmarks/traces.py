"""Large exports of spans, made from a ledger: ``python benchmarks/traces.py LEDGER DIR``.

Each record that travels becomes the span that the library would send, in requests of 512 spans, one a line.
"""

import argparse
import gzip
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Final

from agent_identity._directory.export._otlp_encoding import as_bytes, encode_request
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._spans.span_from_record import EXPORTED_KINDS, RecordSpan, make_span
from agent_identity.identity import SigningKey
from agent_identity.records import Grant, TaskEnd

SPANS: Final = 512
"""Spans of one request, as many as the SDK sends."""

RESOURCE: Final = {"service.name": "invoices", "host.name": "worker-1"}


def spans(ledger: Path) -> Iterator[RecordSpan]:
    """Yield the spans of a ledger, stream after stream.

    Args:
        ledger: The evidence directory, with its keys.
    """
    signer = SigningKey.load(ledger / "keys/recorder.pem")
    reader = open_ledger(str(ledger))
    for stream in reader.streams():
        grants: dict[str, str] = {}
        for line in reader.entries(stream):
            if line.record is None:
                continue
            record = decode(line.record)
            if isinstance(record, Grant):
                grants[record.task.id] = record.grant.token
            elif isinstance(record, TaskEnd):
                yield make_span(record, line.record, signer, grants=grants.pop(record.task.id, None))
            elif record.kind in EXPORTED_KINDS:
                yield make_span(record, line.record, signer)


def write(ledger: Path, directory: Path, size: int, *, compressed: bool) -> int:
    """Write the spans of a ledger to files; return how many there are.

    Args:
        ledger: The evidence directory.
        directory: A new folder.
        size: Bytes of a file, before it is compressed.
        compressed: Whether to compress it by gzip.
    """
    directory.mkdir(parents=True)
    number, every = 0, spans(ledger)
    batch = list(islice(every, SPANS))
    for name in (f"traces-{n:05}.jsonl{'.gz' if compressed else ''}" for n in count(1)):
        if not batch:
            break
        written = 0
        with gzip.open(directory / name, "wb", 1) if compressed else (directory / name).open("wb") as file:
            while batch and written < size:
                written += file.write(as_bytes(encode_request(batch, RESOURCE), "json") + b"\n")
                number += len(batch)
                batch = list(islice(every, SPANS))
    return number


def main() -> None:
    """Write the files that the arguments ask for."""
    parser = argparse.ArgumentParser(description="Write large exports of spans.")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--file-bytes", type=int, default=256 * 1024 * 1024)
    parser.add_argument("--gzip", action="store_true")
    options = parser.parse_args()
    number = write(options.ledger, options.directory, options.file_bytes, compressed=options.gzip)
    print(f"{number:,} spans")


if __name__ == "__main__":
    main()
