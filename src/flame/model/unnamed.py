"""Applications that nobody named: made of a pickled service, and named after its content.

The same service is the same application, and another one never is.
"""

import hashlib

from flame.model.specs import ApplicationSpec


def content_name(label: str, pickled_service: bytes, local_modules: bytes) -> str:
    """Return the name of the application that runs this service."""
    digest = hashlib.sha256(pickled_service + local_modules).hexdigest()
    return f"{label[:80]}-{digest[:12]}"


def is_content_name(name: str, spec: ApplicationSpec) -> bool:
    """Whether an application has no other name than that of its content."""
    if not spec.pickled_service:
        return False
    label = name.rpartition("-")[0]
    return name == content_name(label, spec.pickled_service, spec.local_modules)
