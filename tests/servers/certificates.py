"""A certificate authority for one test, and certificates that it signs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A server's certificate with its key, and the authority's certificate, all as PEM."""

    certificate: bytes
    private_key: bytes
    authority: bytes

    def write(self, certificate_path: Path, key_path: Path) -> None:
        """Put certificate and key where a server looks for them."""
        for path, content in ((certificate_path, self.certificate), (key_path, self.private_key)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Authority:
    """An authority that nobody else knows."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Slipway's tests")])
        signed = (
            _builder(self._name, self._name, self._key.public_key(), None)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = signed.public_bytes(serialization.Encoding.PEM)
        """As PEM."""

    def issue(self, host: str, *, valid_until: datetime | None = None) -> Certificate:
        """A certificate for a server or a client called `host` (a name or an IP address)."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.IPAddress(ip_address(host)) if host.replace(".", "").isdigit() else x509.DNSName(host)
        signed = (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), self._name, key.public_key(), valid_until)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return Certificate(
            certificate=signed.public_bytes(serialization.Encoding.PEM),
            private_key=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            authority=self.certificate,
        )


def issue_certificate(host: str, *, valid_until: datetime | None = None) -> Certificate:
    """A certificate for `host` (a name or an IP address) by an authority that nobody else knows."""
    return Authority().issue(host, valid_until=valid_until)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid_until: datetime | None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(valid_until or now + timedelta(days=1))
    )
