from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FindPackage(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class Package(_message.Message):
    __slots__ = ("sha256", "size", "present")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size: int
    present: bool
    def __init__(self, sha256: _Optional[str] = ..., size: _Optional[int] = ..., present: _Optional[bool] = ...) -> None: ...

class UploadPart(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: Package
    data: bytes
    def __init__(self, header: _Optional[_Union[Package, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class DownloadPackage(_message.Message):
    __slots__ = ("sha256", "tenant")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    tenant: str
    def __init__(self, sha256: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class PackagePart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
