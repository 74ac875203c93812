"""What plays Google's services over gRPC for tests: servers on loopback, and their refusals."""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
HOST = "localhost"


@functools.cache
def authority() -> Path:
    """Make the authority of this process' servers, and have gRPC, also of children, trust it.

    gRPC reads the variable once, with its first connection: there is one for all plugins.

    Returns a directory with ``ca.crt``, ``server.crt`` and ``server.key``.
    """
    directory = Path(tempfile.mkdtemp(prefix="fb-grpc-"))
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    is_ca = x509.BasicConstraints(ca=True, path_length=None)
    ca = _certificate(root, ca_key).add_extension(is_ca, critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName(HOST)])
    server = _certificate(own, key).add_extension(names, critical=False)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for name, made in (("ca.crt", ca), ("server.crt", server)):
        signed = made.issuer_name(root).sign(ca_key, hashes.SHA256())
        (directory / name).write_bytes(signed.public_bytes(pem))
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    (directory / "server.key").write_bytes(secret)
    os.environ[ROOTS] = str(directory / "ca.crt")
    return directory


def _certificate(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
    )


class Refusal(Exception):  # noqa: N818 - it is what the service answers
    """What a request is answered with instead."""

    def __init__(
        self, code: grpc.StatusCode, message: str, reason: str = "", retry: float | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.reason, self.retry = code, message, reason, retry

    def send(self, context: grpc.ServicerContext) -> None:
        """Answer with it, as google.rpc.Status."""
        details = []
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain="googleapis.com")
            details.append(_any(info))
        if self.retry is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry * 1e9))
            details.append(_any(error_details_pb2.RetryInfo(retry_delay=delay)))
        number = self.code.value[0]
        status = status_pb2.Status(code=number, message=self.message, details=details)
        context.abort_with_status(rpc_status.to_status(status))


def _any(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


@contextmanager
def serving_grpc(handler: grpc.GenericRpcHandler) -> Iterator[str]:
    """Serve gRPC over TLS on loopback; yield its host and port."""
    keys = authority()
    pair = (keys / "server.key").read_bytes(), (keys / "server.crt").read_bytes()
    listener = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = listener.add_secure_port(f"{HOST}:0", grpc.ssl_server_credentials([pair]))
    listener.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        listener.stop(None).wait()
