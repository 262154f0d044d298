"""Generated protobuf and gRPC code; only ``flame.wire`` imports it. See proto/."""
