"""Signatures of a stand-in: each belongs to its text, and to the stand-in that made it."""

import base64
import hashlib
import hmac


class Signer:
    """Signs what models think.

    Args:
        secret: signers with the same secret know each other's signatures.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def sign(self, signed: str = "") -> str:
        """Return the signature of a text, in base64."""
        digest = hmac.digest(self._secret, signed.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.b64encode(digest).decode()

    def knows(self, signature: str, signed: str) -> bool:
        """Return whether a signature is this signer's, and of this text. See body.Signatures."""
        return signature == self.sign(signed)
