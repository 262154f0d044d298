"""The descriptor pool of Flame's own messages, apart from protobuf's default one."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
