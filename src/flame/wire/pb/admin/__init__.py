"""Generated; see scripts/generate_protos.py."""
