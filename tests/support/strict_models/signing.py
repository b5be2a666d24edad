"""Signatures of thinking by a fake model API.

A signature is valid only for the text that was signed, and only at the API that signed it.
"""

import base64
import hashlib
import hmac


class Signer:
    """Signs the thinking of models.

    Args:
        secret: signers with the same secret accept each other's signatures.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def sign(self, signed: str = "") -> str:
        """Return the signature of a text, in base64."""
        digest = hmac.digest(self._secret, signed.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.b64encode(digest).decode()

    def knows(self, signature: str, signed: str) -> bool:
        """Return whether this signer made a signature for this text. See body.Signatures."""
        return signature == self.sign(signed)
