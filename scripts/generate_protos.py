"""Generate ``flame.wire.pb`` from ``proto/``: messages only, as ``flame.wire`` names the rpcs itself.

What protoc writes is changed: imports point into this package; the descriptors go into a pool of
their own, so that a process may load another package that describes ``flame.v1`` (the released SDK
does) beside ours; and the classes are made by ``flame.wire.pb.pool``.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "flame" / "wire" / "pb"
PACKAGES = {
    "flame/v0": "v0",
    "flame/v1": "v1",
    "flame/channel/v1": "channel",
    "flame/package/v1": "package",
    "flame/admin/v1": "admin",
}


def localize(source: str) -> str:
    """Point protoc's imports and descriptor pool into ``flame.wire.pb``."""
    for folder, package in PACKAGES.items():
        dotted = re.escape(folder.replace("/", "."))
        source = re.sub(
            rf"^from {dotted} import", f"from flame.wire.pb.{package} import", source, flags=re.M
        )
    source = source.replace(
        "from google.protobuf import descriptor_pool as _descriptor_pool",
        "from flame.wire.pb.pool import POOL as _POOL",
    )
    source = source.replace("_descriptor_pool.Default()", "_POOL")
    # protobuf's own builder loads its implementation in Python, which is not used.
    source = source.replace(
        "from google.protobuf.internal import builder as _builder",
        "from flame.wire.pb import pool as _builder",
    )
    return re.sub(
        r"^(from google\.protobuf import symbol_database.*|_sym_db = .*)\n", "", source, flags=re.M
    )


def main() -> int:
    """Replace the generated package; returns the exit code of protoc."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        files = sorted(str(p.relative_to(ROOT / "proto")) for p in ROOT.glob("proto/**/*.proto"))
        code = subprocess.call(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"-I{ROOT / 'proto'}",
                f"--python_out={out}",
                f"--pyi_out={out}",
                *files,
            ]
        )
        if code:
            return code
        for folder, package in PACKAGES.items():
            target = TARGET / package
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            (target / "__init__.py").write_text(
                '"""Generated; see scripts/generate_protos.py."""\n'
            )
            for path in sorted((out / folder).iterdir()):
                (target / path.name).write_text(localize(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
