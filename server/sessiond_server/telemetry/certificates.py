"""The expiry of a certificate in a file. The standard library reads only certificates of peers."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


def expires_at(pem: bytes) -> float:
    """Return when the first certificate of a PEM file expires. Unit: seconds since 1970.

    Raises:
        ValueError: if there is no certificate.
    """
    text = pem.decode("ascii", errors="replace")
    begin = text.find("-----BEGIN CERTIFICATE-----")
    end = text.find("-----END CERTIFICATE-----", begin)
    if begin < 0 or end < 0:
        raise ValueError("the file holds no certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(text[begin:end] + "-----END CERTIFICATE-----")
    try:
        # RFC 5280: Certificate { TBSCertificate { [0] version, serial, signature, issuer,
        # Validity { notBefore, notAfter }, ... }, ... }
        [_, certificate] = next(_elements(der))
        [_, signed] = next(_elements(certificate))
        fields = [field for field in _elements(signed) if field[0] != _VERSION]
        _, (kind, after) = _elements(fields[3][1])
        return _time(kind, after)
    except (IndexError, StopIteration, ValueError) as e:
        raise ValueError("the certificate cannot be read") from e


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tags and contents of DER elements."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count])
            at += count
        yield tag, data[at : at + size]
        at += size


def _time(kind: int, value: bytes) -> float:
    text = value.decode("ascii").rstrip("Z")
    if kind == _UTC_TIME:
        # The year has two digits: 50 to 99 mean 1950 to 1999.
        text = ("19" if text[0] >= "5" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError(f"tag {kind:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
