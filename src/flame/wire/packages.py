"""The package services: message classes and methods, under one roof."""

from flame.wire.pb.package import packages_pb2
from flame.wire.pb.package.packages_pb2 import (
    DownloadPackage,
    FindPackage,
    Package,
    PackagePart,
    UploadPart,
)
from flame.wire.v1 import methods

UPLOAD = methods(packages_pb2.DESCRIPTOR.services_by_name["PackageUpload"])
DOWNLOAD = methods(packages_pb2.DESCRIPTOR.services_by_name["PackageDownload"])

#: A part has at most so many bytes.
PART_BYTES = 1024 * 1024

__all__ = [
    "DOWNLOAD",
    "PART_BYTES",
    "UPLOAD",
    "DownloadPackage",
    "FindPackage",
    "Package",
    "PackagePart",
    "UploadPart",
]
