"""gRPC stubs, generated from proto/ by the build (build_stubs.py); not committed."""
