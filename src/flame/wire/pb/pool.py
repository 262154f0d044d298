"""The descriptor pool of Flame's own messages, apart from protobuf's default one, and their classes.

What protobuf generates and ``google.protobuf.descriptor_pool`` import its implementation in Python
besides the one in C that is used, which takes every process 40 ms at its start; this does not.
"""

from collections.abc import Iterable, MutableMapping
from typing import Any

from google.protobuf import descriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message


if descriptor._USE_C_DESCRIPTORS:
    from google.protobuf.pyext.cpp_message import GeneratedProtocolMessageType as _MessageType

    POOL: Any = descriptor._message.DescriptorPool()
else:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.internal.python_message import (  # type: ignore[no-redef]
        GeneratedProtocolMessageType as _MessageType,
    )

    POOL = DescriptorPool()


def message_class(message: Any) -> Any:
    """Return the class of a message that generated code describes."""
    return message._concrete_class


def BuildMessageAndEnumDescriptors(file: Any, module: MutableMapping[str, Any]) -> None:  # noqa: N802
    """Put the descriptors of a file's messages into its module; called by generated code."""
    _add_descriptors(module, file.message_types_by_name.values(), "_")


def BuildTopDescriptorsAndMessages(  # noqa: N802
    file: Any, name: str, module: MutableMapping[str, Any]
) -> None:
    """Put a file's classes, enumerations and services into its module; called by generated code."""
    for enum in file.enum_types_by_name.values():
        module["_" + enum.name.upper()] = enum
        module[enum.name] = EnumTypeWrapper(enum)
        module.update((value.name, value.number) for value in enum.values)
    for service in file.services_by_name.values():
        module["_" + service.name.upper()] = service
    for message in file.message_types_by_name.values():
        module[message.name] = _made(message, name, "")


def _made(message: Any, module: str, prefix: str) -> Any:
    content = {
        nested.name: _made(nested, module, f"{prefix}{message.name}.")
        for nested in message.nested_types
    }
    content |= {"DESCRIPTOR": message, "__module__": module, "__qualname__": prefix + message.name}
    return _MessageType(message.name, (Message,), content)


def _add_descriptors(module: MutableMapping[str, Any], messages: Iterable[Any], prefix: str) -> None:
    for message in messages:
        module[prefix + message.name.upper()] = message
        _add_descriptors(module, message.nested_types, prefix + message.name.upper() + "_")
        for enum in message.enum_types:
            module[prefix + enum.name.upper()] = enum
